//! TLS from files: protocols by ALPN, clients' certificates, and clear errors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use foretide_conf::settings::{ListenerTls, Settings};
use foretide_routing::settings::ConsumerSource;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::instance;
use crate::world::World;

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    certificate_pem: String,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// Its certificate as a PEM file.
    pub(crate) fn write_to(&self, directory: &Path) -> PathBuf {
        let path = directory.join("ca.pem");
        std::fs::write(&path, self.issuer.pem()).unwrap();
        path
    }

    pub(crate) fn issue(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: certificate.der().clone(), certificate_pem: certificate.pem(), key }
    }

    fn client(&self, identity: Option<&Identity>, protocol: &str) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![identity.certificate.clone()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

fn tls_files(directory: &Path, authority: &Authority) -> ListenerTls {
    let server = authority.issue("localhost");
    let (certificate, key) = (directory.join("server.pem"), directory.join("server.key"));
    std::fs::write(&certificate, &server.certificate_pem).unwrap();
    std::fs::write(&key, server.key.serialize_pem()).unwrap();
    ListenerTls { certificate, key, client_ca: None }
}

/// What the instance saw, as it tells it.
async fn ask(world: &World, connector: &TlsConnector, http2: bool) -> Result<String, String> {
    let tcp = TcpStream::connect(world.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let io = TokioIo::new(connector.connect(name, tcp).await.map_err(|error| error.to_string())?);
    let host = if http2 { "https://localhost/api/head" } else { "/api/head" };
    let request = Request::get(host).header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
    let response = if http2 {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        sender.send_request(request).await
    } else {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    let body = response.map_err(|error| error.to_string())?.into_body();
    Ok(String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn both_protocols_are_offered() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, instance) = (Authority::new(), instance::start().await);
    let world = World::with(&[instance.address], |settings| {
        settings.server.listeners[0].tls = Some(tls_files(directory.path(), &authority));
    });
    for (protocol, http2) in [("h2", true), ("http/1.1", false)] {
        let seen = ask(&world, &authority.client(None, protocol), http2).await.unwrap();
        assert!(seen.contains("x-forwarded-proto: https\n"), "{seen}");
    }
}

#[tokio::test]
async fn clients_without_a_certificate_are_refused_and_subjects_are_consumers() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, instance) = (Authority::new(), instance::start().await);
    let ca = authority.write_to(directory.path());
    let world = World::with(&[instance.address], |settings| {
        let tls = ListenerTls { client_ca: Some(ca), ..tls_files(directory.path(), &authority) };
        settings.server.listeners[0].tls = Some(tls);
        settings.routing.routes[0].consumer = vec![ConsumerSource::MtlsSubject];
    });
    ask(&world, &authority.client(None, "http/1.1"), false).await.expect_err("no certificate, no answer");
    for name in ["team-a", "team-b", "team-a"] {
        let client = authority.issue(name);
        ask(&world, &authority.client(Some(&client), "http/1.1"), false).await.unwrap();
    }
    let seen: Vec<u64> = world.observed(3).await.iter().map(|one| one.query.consumer_key).collect();
    assert_eq!(seen[0], seen[2], "the same subject, whatever its certificate");
    assert_ne!(seen[0], seen[1]);
}

#[tokio::test]
async fn files_at_fault_are_named_before_anything_listens() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let good = tls_files(directory.path(), &authority);
    let junk = directory.path().join("junk.pem");
    std::fs::write(&junk, "not PEM").unwrap();
    let other_key = directory.path().join("other.key");
    std::fs::write(&other_key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let missing = directory.path().join("missing.pem");
    let cases = [
        (ListenerTls { certificate: missing.clone(), ..good.clone() }, "missing.pem"),
        (ListenerTls { key: missing, ..good.clone() }, "missing.pem"),
        (ListenerTls { certificate: junk.clone(), ..good.clone() }, "junk.pem"),
        (ListenerTls { key: other_key, ..good.clone() }, "other.key"),
        (ListenerTls { client_ca: Some(junk), ..good }, "junk.pem"),
    ];
    for (tls, at_fault) in cases {
        let with = |settings: &mut Settings| settings.server.listeners[0].tls = Some(tls);
        let error = World::try_with(&[], with).err().expect("an error").to_string();
        assert!(error.contains(at_fault), "{error}");
    }
}
