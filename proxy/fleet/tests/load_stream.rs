//! Load reports out of band, over real sockets, from a server that speaks as gRPC does.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use foretide_fleet::ask::Speech;
use foretide_fleet::load_stream;
use foretide_fleet::probe::ProbeTarget;
use foretide_predictor::id::InstanceId;
use foretide_routing::settings::HealthSettings;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// A frame with `cpu_utilization`, field 1.
fn report(cpu: f64) -> Vec<u8> {
    [&[0, 0, 0, 0, 9, 9][..], &cpu.to_le_bytes()[..]].concat()
}

/// Answers each question with some reports and the end; tells what was asked.
async fn producer(reports: Vec<u8>) -> (SocketAddr, mpsc::UnboundedReceiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tell, reports) = (tell.clone(), reports.clone());
            let answer = service_fn(move |request: Request<Incoming>| {
                let (tell, reports) = (tell.clone(), reports.clone());
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
                    let _ = tell.send((path, body));
                    let answer = Response::builder().header("content-type", "application/grpc");
                    Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(reports))).unwrap())
                }
            });
            tokio::spawn(
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer),
            );
        }
    });
    (address, asked)
}

fn target(id: u32, address: SocketAddr, load_stream: Option<Duration>) -> ProbeTarget {
    let health = HealthSettings {
        path: None,
        every: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        unhealthy_after: 1,
        healthy_after: 1,
    };
    let speech = Speech::default();
    ProbeTarget { instance: InstanceId(id), address: address.to_string(), health, speech, load_stream }
}

#[tokio::test]
async fn who_is_asked_for_its_load_says_it_and_a_broken_stream_is_opened_again() {
    let (talker, mut asked) = producer([report(0.25), report(0.75)].concat()).await;
    let (silent, mut never) = producer(Vec::new()).await;
    let (liar, _) = producer([report(0.5), vec![1, 0xff, 0xff, 0xff, 0xff, 3]].concat()).await;
    let every = Some(Duration::from_secs(1));
    let (_targets, seen) =
        watch::channel(vec![target(1, talker, every), target(2, silent, None), target(3, liar, every)]);
    let (results, mut said) = mpsc::channel(64);
    tokio::spawn(load_stream::run(seen, results));

    let (mut first, mut third) = (Vec::new(), Vec::new());
    while first.len() < 4 || third.len() < 2 {
        let (instance, utilisation) = timeout(PATIENCE, said.recv()).await.expect("reports").expect("open");
        match instance {
            InstanceId(1) => first.push(utilisation.cpu),
            InstanceId(3) => third.push(utilisation.cpu),
            other => panic!("{other:?} was not asked"),
        }
    }
    assert_eq!(first[..4], [Some(0.25), Some(0.75), Some(0.25), Some(0.75)], "twice the whole stream");
    assert_eq!(third[..2], [Some(0.5); 2], "what came before the nonsense counts");
    let (path, frame) = asked.recv().await.unwrap();
    assert_eq!(path, "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics");
    assert_eq!(frame, [0, 0, 0, 0, 6, 10, 4, 8, 1, 16, 0]);
    assert!(never.try_recv().is_err());
}

#[tokio::test]
async fn who_leaves_is_asked_no_more() {
    let (talker, mut asked) = producer(report(0.25)).await;
    let (targets, seen) = watch::channel(vec![target(1, talker, Some(Duration::from_millis(500)))]);
    let (results, mut said) = mpsc::channel(64);
    let listening = tokio::spawn(load_stream::run(seen, results));
    timeout(PATIENCE, said.recv()).await.expect("a report").expect("open");
    assert!(asked.recv().await.is_some());
    targets.send_replace(Vec::new());
    drop(targets);
    timeout(PATIENCE, listening).await.expect("ends with its targets' sender").unwrap();
}
