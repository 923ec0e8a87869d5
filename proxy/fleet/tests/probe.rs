//! Health checks against real sockets.

use std::sync::Arc;
use std::time::Duration;

use foretide_fleet::ask::{Speech, TlsNames};
use foretide_fleet::probe::{self, ProbeTarget};
use foretide_predictor::id::InstanceId;
use foretide_routing::settings::HealthSettings;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

fn target(id: u32, address: String, path: Option<&str>) -> ProbeTarget {
    let health = HealthSettings {
        path: path.map(str::to_owned),
        every: Duration::from_millis(20),
        timeout: Duration::from_millis(500),
        unhealthy_after: 2,
        healthy_after: 2,
    };
    ProbeTarget { instance: InstanceId(id), address, health, speech: Speech::default(), load_stream: None }
}

/// Answers every request with this head; `None`: accepts and says nothing.
async fn server(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            match answer {
                Some(head) => {
                    let _ = stream.read(&mut [0; 1024]).await;
                    let _ = stream.write_all(head.as_bytes()).await;
                }
                None => silent.push(stream),
            }
        }
    });
    address
}

#[tokio::test]
async fn each_target_gets_its_own_verdict_and_a_new_list_is_followed() {
    let fine = server(Some("HTTP/1.1 204 No Content\r\n\r\n")).await;
    let sick = server(Some("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n")).await;
    let hangs = server(None).await;
    let gone = "127.0.0.1:1".to_owned();
    let (list, targets) = watch::channel(vec![
        target(0, fine, Some("/healthz")),
        target(1, sick.clone(), Some("/healthz")),
        target(2, hangs.clone(), Some("/healthz")),
        target(3, hangs, None),
        target(4, gone, None),
    ]);
    let (results, mut heard) = mpsc::channel(64);
    let task = tokio::spawn(probe::run(targets, results));

    let mut verdicts = [None; 5];
    let collect = async {
        while verdicts.contains(&None) {
            let (instance, healthy) = heard.recv().await.unwrap();
            let slot = &mut verdicts[instance.0 as usize];
            assert!(slot.is_none_or(|before| before == healthy), "{instance:?} changed its mind");
            *slot = Some(healthy);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), collect).await.unwrap();
    assert_eq!(verdicts, [Some(true), Some(false), Some(false), Some(true), Some(false)]);

    list.send(vec![target(9, sick, Some("/"))]).unwrap();
    let nine = async { while heard.recv().await.unwrap() != (InstanceId(9), false) {} };
    tokio::time::timeout(Duration::from_secs(30), nine).await.unwrap();

    drop(list);
    tokio::time::timeout(Duration::from_secs(30), task).await.unwrap().unwrap();
}

/// Talks TLS with a certificate for this name, and answers 200 to every request, in HTTP/1.1 or HTTP/2.
async fn tls_server(authority: &Authority, name: &str) -> String {
    let certificate = authority.issue(name);
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.0], certificate.1)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper::service::service_fn(|request: http::Request<Incoming>| async move {
                    // The name is what the pool calls its instances, whatever their address.
                    let host = request.uri().host().map(str::to_owned);
                    let host =
                        host.or(request.headers().get("host").map(|host| host.to_str().unwrap().to_owned()));
                    let status = if host.as_deref() == Some("api.internal") { 200 } else { 421 };
                    let response = http::Response::builder().status(status);
                    Ok::<_, std::convert::Infallible>(response.body(Empty::<bytes::Bytes>::new()).unwrap())
                });
                let serving = auto::Builder::new(TokioExecutor::new());
                let _ = serving.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// Issues certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn write_to(&self, folder: &std::path::Path) -> std::path::PathBuf {
        let path = folder.join("ca.pem");
        std::fs::write(&path, self.0.pem()).unwrap();
        path
    }

    fn issue(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

#[tokio::test]
async fn pools_that_talk_tls_are_asked_over_tls_with_their_own_trust() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = Some(authority.write_to(folder.path()));
    let right = tls_server(&authority, "api.internal").await;
    let other_name = tls_server(&authority, "other.internal").await;
    let stranger = tls_server(&Authority::new(), "api.internal").await;
    let clear = server(Some("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
    let over_tls = |id: u32, address: &str, path: Option<&str>, http2: bool| {
        let tls = Some(TlsNames { server_name: "api.internal".into(), ca: ca.clone() });
        ProbeTarget { speech: Speech { tls, http2 }, ..target(id, address.to_owned(), path) }
    };
    let expected = [true, true, true, false, false, false, false];
    let targets = vec![
        over_tls(0, &right, Some("/health"), false),
        over_tls(1, &right, Some("/health"), true),
        over_tls(2, &right, None, false),
        over_tls(3, &other_name, Some("/health"), false),
        over_tls(4, &stranger, Some("/health"), false),
        over_tls(5, &stranger, None, false),
        over_tls(6, &clear, None, false),
    ];
    let (_list, targets) = watch::channel(targets);
    let (results, mut heard) = mpsc::channel(64);
    let task = tokio::spawn(probe::run(targets, results));
    let mut verdicts = [None; 7];
    let collect = async {
        while verdicts.contains(&None) {
            let (instance, healthy) = heard.recv().await.unwrap();
            verdicts[instance.0 as usize] = Some(healthy);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), collect).await.unwrap();
    assert_eq!(verdicts, expected.map(Some));
    task.abort();
}
