//! Who asks: the first of a route's sources that names somebody, else the client's address.
//!
//! A consumer is a 64-bit hash of its name mixed with the kind of source, so that nobody becomes another consumer by
//! putting that one's key into a header that only stands further back in the list. API keys are hashed like everything
//! else and kept nowhere. None of this authenticates: it is for load decisions only.

use crate::extract::{RequestHead, jwt};
use crate::settings::ConsumerSource;
use core::net::IpAddr;
use foretide_predictor::hash;

/// Sources in order.
#[derive(Debug)]
pub(crate) struct ConsumerReader {
    sources: Vec<(u64, ConsumerSource)>,
    address_tag: u64,
}

impl ConsumerReader {
    /// Compiles checked sources.
    pub(crate) fn compile(sources: &[ConsumerSource]) -> Self {
        let tagged = |source: &ConsumerSource| (tag(source), source.clone());
        Self { sources: sources.iter().map(tagged).collect(), address_tag: hash::bytes(b"address") }
    }

    /// Key of the consumer whom the first source would call so.
    pub(crate) fn key_of(&self, name: &[u8]) -> u64 {
        let tag = self.sources.first().map_or(self.address_tag, |(tag, _)| *tag);
        hash::pair(tag, hash::bytes(name))
    }

    /// Key of the consumer, and whether one of the sources named it.
    pub(crate) fn read(&self, head: &impl RequestHead) -> (u64, bool) {
        let named = self.sources.iter().find_map(|(tag, source)| Some(hash::pair(*tag, name(source, head)?)));
        match named {
            Some(key) => (key, true),
            None => (
                hash::pair(self.address_tag, head.client().map_or(0, |client| address(client, 32, 128))),
                false,
            ),
        }
    }
}

fn tag(source: &ConsumerSource) -> u64 {
    let (kind, name) = match source {
        ConsumerSource::Header(name) => ("header", name.as_str()),
        ConsumerSource::ApiKey(name) => ("api-key", name.as_str()),
        ConsumerSource::UnverifiedJwtClaim(name) => ("jwt-claim", name.as_str()),
        ConsumerSource::MtlsSubject => ("mtls-subject", ""),
        ConsumerSource::ClientPrefix { .. } => ("client-prefix", ""),
    };
    hash::pair(hash::bytes(kind.as_bytes()), hash::bytes(name.as_bytes()))
}

/// Hash of the name that a source gives.
fn name(source: &ConsumerSource, head: &impl RequestHead) -> Option<u64> {
    match source {
        ConsumerSource::Header(header) | ConsumerSource::ApiKey(header) => {
            let value = head.header(header)?.trim_ascii();
            (!value.is_empty()).then(|| hash::bytes(value))
        }
        ConsumerSource::UnverifiedJwtClaim(claim) => jwt::claim_hash(head.header("authorization")?, claim),
        ConsumerSource::MtlsSubject => {
            let subject = head.mtls_subject()?;
            (!subject.is_empty()).then(|| hash::bytes(subject.as_bytes()))
        }
        ConsumerSource::ClientPrefix { v4_bits, v6_bits } => {
            Some(address(head.client()?, *v4_bits, *v6_bits))
        }
    }
}

/// Hash of an address cut to its leading bits; an IPv4 address in IPv6 form is that IPv4 address.
fn address(client: IpAddr, v4_bits: u8, v6_bits: u8) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(client) => {
            let dropped = 32 - u32::from(v4_bits.min(32));
            let kept = u32::MAX.checked_shl(dropped).unwrap_or(0) & client.to_bits();
            hash::bytes(&kept.to_be_bytes())
        }
        IpAddr::V6(client) => {
            let dropped = 128 - u32::from(v6_bits.min(128));
            let kept = u128::MAX.checked_shl(dropped).unwrap_or(0) & client.to_bits();
            hash::bytes(&kept.to_be_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::head::PlainHead;

    fn key(sources: &[ConsumerSource], head: &PlainHead) -> (u64, bool) {
        ConsumerReader::compile(sources).read(head)
    }

    fn from(client: &str) -> PlainHead {
        PlainHead::new("GET", "/").with_client(client.parse().unwrap())
    }

    #[test]
    fn the_first_source_that_names_somebody_wins() {
        let sources =
            [ConsumerSource::ApiKey("x-key".to_owned()), ConsumerSource::Header("x-user".to_owned())];
        let user = from("10.0.0.1").with_header("x-user", b" alice ");
        let both = user.clone().with_header("x-key", b"secret");
        let blank = user.clone().with_header("x-key", b"  ");
        assert_eq!(key(&sources, &user), key(&sources[1..], &user));
        assert_eq!(key(&sources, &both), key(&sources[..1], &both));
        assert_eq!(key(&sources, &blank), key(&sources, &user), "a blank key names nobody");
        assert!(key(&sources, &user).1);
        assert_eq!(key(&sources, &from("10.0.0.1")), key(&[], &from("10.0.0.1")));
        assert!(!key(&sources, &from("10.0.0.1")).1);
    }

    #[test]
    fn one_source_cannot_stand_in_for_another() {
        let head = PlainHead::new("GET", "/").with_header("a", b"x").with_header("b", b"x");
        let keys = [
            key(&[ConsumerSource::Header("a".to_owned())], &head),
            key(&[ConsumerSource::Header("b".to_owned())], &head),
            key(&[ConsumerSource::ApiKey("a".to_owned())], &head),
        ];
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
    }

    #[test]
    fn prefixes_cut_addresses() {
        let prefix = |v4_bits, v6_bits| [ConsumerSource::ClientPrefix { v4_bits, v6_bits }];
        assert_eq!(key(&prefix(24, 64), &from("10.1.2.3")), key(&prefix(24, 64), &from("10.1.2.99")));
        assert_ne!(key(&prefix(24, 64), &from("10.1.2.3")), key(&prefix(24, 64), &from("10.1.3.3")));
        assert_eq!(key(&prefix(24, 64), &from("::ffff:10.1.2.3")), key(&prefix(24, 64), &from("10.1.2.3")));
        assert_eq!(key(&prefix(0, 0), &from("10.1.2.3")), key(&prefix(0, 0), &from("99.1.2.3")));
        assert_eq!(key(&prefix(0, 0), &from("2001:db8::1")), key(&prefix(0, 0), &from("fe80::1")));
        assert_eq!(
            key(&prefix(32, 48), &from("2001:db8:1:2::1")),
            key(&prefix(32, 48), &from("2001:db8:1:3::1"))
        );
        assert_ne!(key(&prefix(32, 128), &from("2001:db8::1")), key(&prefix(32, 128), &from("2001:db8::2")));
    }

    #[test]
    fn subjects_and_claims_name_consumers() {
        let mut head =
            PlainHead::new("GET", "/").with_header("authorization", b"Bearer e30.eyJzdWIiOiI3In0.x");
        assert!(key(&[ConsumerSource::UnverifiedJwtClaim("sub".to_owned())], &head).1);
        assert!(!key(&[ConsumerSource::UnverifiedJwtClaim("iss".to_owned())], &head).1);
        assert!(!key(&[ConsumerSource::MtlsSubject], &head).1);
        head.mtls_subject = Some("CN=alice".to_owned());
        assert!(key(&[ConsumerSource::MtlsSubject], &head).1);
    }
}
