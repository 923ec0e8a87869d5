//! Opens sockets and reads certificates before Pingora sees them, so that every error has a name and port 0 an answer.

use std::any::Any;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use foretide_conf::settings::{Listener, ListenerTls};
use parking_lot::Mutex;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig, TlsAccept};
use pingora_core::protocols::tls::TlsRef;
use pingora_core::server::Fds;
use pingora_core::server::ListenFds;
use pingora_core::tls::sign::{CertifiedKey, SingleCertAndKey};
use pingora_core::tls::{CryptoProvider, RootCertStore, WebPkiClientVerifier};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::engine::EngineError;

/// Read buffer of a connection. Pingora's 64 KiB stay allocated for as long as a connection lives; 4 KiB halve what a
/// thousand idle connections hold, and bodies still stream in reads of whatever the kernel has.
const READ_BUFFER: usize = 4 * 1024;

/// Listeners that are open already.
pub(super) struct Opened {
    pub(super) listeners: Vec<ListenerConfig>,
    pub(super) sockets: ListenFds,
    pub(super) addresses: Vec<SocketAddr>,
}

/// Subject of a client's certificate, kept with its connection.
pub(super) struct ClientSubject(pub(super) String);

/// Opens all listeners, or none.
pub(super) fn open(listeners: &[Listener]) -> Result<Opened, EngineError> {
    let mut bound = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let tls = listener.tls.as_ref().map(|tls| tls_settings(listener.address, tls)).transpose()?;
        bound.push((bind(listener.address)?, tls));
    }
    let mut sockets = Fds::new();
    let mut configs = Vec::with_capacity(bound.len());
    let mut addresses = Vec::with_capacity(bound.len());
    for ((socket, address), tls) in bound {
        // Pingora looks the socket up by the very text of its address, and owns it from then on.
        let name = address.to_string();
        sockets.add(name.clone(), socket.into_raw_fd());
        let buffers = L4BufferSettings::default().read(READ_BUFFER);
        let config = ListenerConfig::tcp(name).l4_buffer(buffers);
        configs.push(match tls {
            Some(tls) => config.tls(tls),
            None => config,
        });
        addresses.push(address);
    }
    Ok(Opened { listeners: configs, sockets: Arc::new(Mutex::new(sockets)), addresses })
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), EngineError> {
    let failed = |source| EngineError::Bind { address, source };
    let socket = TcpListener::bind(address).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let actual = socket.local_addr().map_err(failed)?;
    Ok((socket, actual))
}

fn tls_settings(address: SocketAddr, tls: &ListenerTls) -> Result<TlsSettings, EngineError> {
    pingora_core::tls::install_default_crypto_provider();
    let at = |path: &Path, reason: String| EngineError::Tls { address, path: path.to_owned(), reason };
    let key = certified_key(tls).map_err(|(path, reason)| at(path, reason))?;
    let mut settings = TlsSettings::with_callbacks(Box::new(KeepSubject))
        .map_err(|error| at(&tls.certificate, error.to_string()))?;
    settings.set_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    if let Some(ca) = &tls.client_ca {
        let mut roots = RootCertStore::empty();
        pingora_core::tls::load_ca_file_into_store(ca, &mut roots)
            .map_err(|error| at(ca, error.to_string()))?;
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
            .build()
            .map_err(|error| at(ca, format!("no usable authority in it: {error}")))?;
        settings.set_client_cert_verifier(verifier);
    }
    settings.enable_h2();
    Ok(settings)
}

/// Chain and key, which must belong together; or the file at fault and what is wrong with it.
fn certified_key(tls: &ListenerTls) -> Result<CertifiedKey, (&Path, String)> {
    let (certificate, key) = (tls.certificate.as_path(), tls.key.as_path());
    for path in [certificate, key] {
        std::fs::metadata(path).map_err(|error| (path, error.to_string()))?;
    }
    let loaded =
        pingora_core::tls::load_certs_and_key_files(&certificate.to_string_lossy(), &key.to_string_lossy())
            .map_err(|error| (certificate, error.to_string()))?;
    let Some((chain, private)) = loaded else {
        let reason = format!("no certificate in PEM here, or no private key in PEM in {}", key.display());
        return Err((certificate, reason));
    };
    let provider = CryptoProvider::get_default().ok_or((certificate, "no TLS provider".to_owned()))?;
    CertifiedKey::from_der(chain, private, provider)
        .map_err(|error| (key, format!("does not fit {}: {error}", certificate.display())))
}

/// Keeps the subject of the client's certificate, in RFC 4514 order as `x509-parser` prints it, with the connection.
struct KeepSubject;

#[async_trait]
impl TlsAccept for KeepSubject {
    async fn handshake_complete_callback(&self, tls: &TlsRef) -> Option<Arc<dyn Any + Send + Sync>> {
        let (_, certificate) = X509Certificate::from_der(tls.peer_certificate_der()?).ok()?;
        Some(Arc::new(ClientSubject(certificate.subject().to_string())))
    }
}
