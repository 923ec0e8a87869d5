//! TLS to the instances: the protocol by ALPN, trust by the pool's own authorities.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use foretide_routing::settings::{HedgeAfter, HedgeSettings};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::client::{get, http1};
use crate::tls::Authority;
use crate::world::{World, route};
use crate::{hedge, instance};

/// An instance that talks TLS with a certificate for `name`, HTTP/1.1 or HTTP/2.
async fn tls_instance(authority: &Authority, name: &str) -> SocketAddr {
    let identity = authority.issue(name);
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let serving = auto::Builder::new(TokioExecutor::new());
                let _ = serving.serve_connection(TokioIo::new(stream), instance::service()).await;
            });
        }
    });
    address
}

fn world(instances: &[SocketAddr], ca: &Path, http2: bool) -> World {
    World::with(instances, |settings| {
        let upstream = &mut settings.routing.pools[0].upstream;
        upstream.tls_server_name = Some("api.internal".into());
        upstream.tls_ca = Some(ca.to_owned());
        upstream.http2 = http2;
        if !http2 {
            let after = HedgeAfter::Fixed(Duration::from_secs(60));
            settings.routing.pools[0].hedge = Some(HedgeSettings { after, budget: 1.0 });
            settings.routing.routes.push(route("heavy", "/heavy", "main"));
        }
    })
}

#[tokio::test]
async fn requests_that_may_be_hedged_trust_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let ca = authority.write_to(directory.path());
    for (by, status) in [(&authority, 200), (&stranger, 502)] {
        let instances = [tls_instance(by, "api.internal").await, tls_instance(by, "api.internal").await];
        let world = world(&instances, &ca, false);
        hedge::teach(&world).await;
        for _ in 0..3 {
            assert_eq!(get(&http1(), &world.url("/api/head")).await.status(), status);
        }
    }
}

#[tokio::test]
async fn both_protocols_are_spoken_to_instances_that_the_pools_authority_vouches_for() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = authority.write_to(directory.path());
    let instance = tls_instance(&authority, "api.internal").await;
    for (http2, version) in [(false, "HTTP/1.1"), (true, "HTTP/2.0")] {
        let world = world(&[instance], &ca, http2);
        let answer = get(&http1(), &world.url("/api/head")).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.body().starts_with(version), "{}", answer.body());
    }
}

#[tokio::test]
async fn an_instance_with_another_name_or_another_authority_is_not_spoken_to() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let ca = authority.write_to(directory.path());
    for instance in
        [tls_instance(&authority, "other.internal").await, tls_instance(&stranger, "api.internal").await]
    {
        let world = world(&[instance], &ca, false);
        assert_eq!(get(&http1(), &world.url("/api/head")).await.status(), 502);
    }
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_named_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.pem");
    let started = World::try_with(&[], |settings| {
        settings.routing.pools[0].upstream.tls_ca = Some(missing);
    });
    let error = started.err().expect("an error").to_string();
    assert!(error.contains("missing.pem") && error.contains("pool main"), "{error}");
}
