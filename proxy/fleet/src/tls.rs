//! TLS to instances for checks, with the same trust as the proxy's own connections: a pool's authorities, or the platform's.
//!
//! Authorities are read when the first check needs them and kept. A file that cannot be read fails the check and is read
//! again at the next one, so that a secret that is mounted late is found.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::ask::TlsNames;

/// What connections are made with, by file of authorities and by whether HTTP/2 is offered: as many as pools differ in.
#[derive(Default)]
pub(super) struct Authorities {
    known: Mutex<BTreeMap<(Option<PathBuf>, bool), TlsConnector>>,
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Authorities")
    }
}

impl Authorities {
    /// The handshake on a connection; `None`: no trust, or no connection.
    pub(super) async fn connect(
        &self,
        names: &TlsNames,
        http2: bool,
        stream: TcpStream,
    ) -> Option<TlsStream<TcpStream>> {
        let name = ServerName::try_from(names.server_name.clone()).ok()?;
        self.connector(names, http2)?.connect(name, stream).await.ok()
    }

    fn connector(&self, names: &TlsNames, http2: bool) -> Option<TlsConnector> {
        let key = (names.ca.clone(), http2);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connector) = known.get(&key) {
            return Some(connector.clone());
        }
        let mut roots = RootCertStore::empty();
        let (trusted, _unusable) = match &names.ca {
            Some(file) => {
                roots.add_parsable_certificates(CertificateDer::pem_file_iter(file).ok()?.flatten())
            }
            None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().ok()?),
        };
        if trusted == 0 {
            return None;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().ok()?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        let spoken: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = spoken.iter().map(|protocol| protocol.to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        known.insert(key, connector.clone());
        Some(connector)
    }
}
