//! The sample producer over real sockets, in process.

use std::time::Duration;

use bytes::Bytes;
use foretide_loadtest::producer::{ProducerSettings, serve_on};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Producer {
    base: String,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

async fn start(cold_start: Duration) -> Producer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let settings = ProducerSettings { address, speed: 1.0, cold_start, seed: 7, load_report: true };
    let served = tokio::spawn(serve_on(listener, settings, async { drop(stopped.await) }));
    Producer { base: format!("http://{address}"), stop, served }
}

async fn send(request: Request<Full<Bytes>>, http2: bool) -> Response<Bytes> {
    let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http();
    let (parts, body) = client.request(request).await.unwrap().into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

async fn get(producer: &Producer, path: &str, tenant: &str) -> Response<Bytes> {
    let request = Request::get(format!("{}{path}", producer.base)).header("x-tenant", tenant);
    send(request.body(Full::default()).unwrap(), false).await
}

#[tokio::test]
async fn every_endpoint_answers_with_what_was_asked() {
    let producer = start(Duration::ZERO).await;
    let search = get(&producer, "/search?rows=900&q=reef", "tenant-3").await;
    assert_eq!(search.status(), StatusCode::OK);
    let found: serde_json::Value = serde_json::from_slice(search.body()).unwrap();
    assert_eq!(found["hits"].as_array().unwrap().len(), 20);
    assert!(found["hits"][0][1].as_f64() >= found["hits"][19][1].as_f64(), "sorted by worth: {found}");
    assert_eq!(get(&producer, "/health", "x").await.status(), StatusCode::OK, "work is done only once warm");

    let report: serde_json::Value =
        serde_json::from_slice(get(&producer, "/report?rows=500", "a").await.body()).unwrap();
    let counted: u64 =
        report["groups"].as_object().unwrap().values().map(|group| group["items"].as_u64().unwrap()).sum();
    assert_eq!(counted, 500);

    let export = get(&producer, "/export?kb=40", "a").await;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&export.body()[..]), &mut text).unwrap();
    assert_eq!(text.len(), 40 * 1024);

    let hash = get(&producer, "/hash?n=2500", "a").await;
    assert_eq!(hash.body().len(), 64);
    let seconds = |answer: &Response<Bytes>| {
        let report = answer.headers()["endpoint-load-metrics"].to_str().unwrap().to_owned();
        let rest = report.strip_prefix("TEXT cpu_utilization=").expect("in text form");
        let (busy, seconds) = rest.split_once(",request_cost.cpu_seconds=").expect("with a cost");
        assert!((0.0..=1.0).contains(&busy.parse::<f64>().unwrap()), "{report}");
        seconds.parse::<f64>().unwrap()
    };
    let heavy = get(&producer, "/hash?n=250000", "a").await;
    assert!(seconds(&heavy) > 10.0 * seconds(&hash), "a hundred times the work is much dearer");
    let thumbnail = get(&producer, "/thumbnail?size=50", "a").await;
    assert_eq!(thumbnail.body().len(), "P6\n50 50\n255\n".len() + 50 * 50 * 3);
    assert_eq!(thumbnail.headers()["content-type"], "image/x-portable-pixmap");
    assert_eq!(
        thumbnail.headers()["x-instance"].to_str().unwrap(),
        producer.base.rsplit(':').next().unwrap()
    );
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let producer = start(Duration::ZERO).await;
    assert_eq!(get(&producer, "/nowhere", "a").await.status(), StatusCode::NOT_FOUND);
    let wrong = get(&producer, "/hash?n=-4", "a").await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    assert_eq!(wrong.body(), "n must be a whole number from 1 to 500000\n");
    let delete = Request::delete(format!("{}/hash", producer.base)).body(Full::default()).unwrap();
    assert_eq!(send(delete, false).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn http2_with_prior_knowledge_echoes_a_body() {
    let producer = start(Duration::ZERO).await;
    let body = Bytes::from(vec![b'x'; 200_000]);
    let request = Request::post(format!("{}/echo", producer.base)).body(Full::new(body.clone())).unwrap();
    assert_eq!(send(request, true).await.into_body(), body);
}

#[tokio::test]
async fn cold_says_so_and_closing_finishes_what_is_in_flight() {
    let producer = start(Duration::from_secs(3_600)).await;
    assert_eq!(get(&producer, "/health", "a").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(producer);

    let producer = start(Duration::ZERO).await;
    get(&producer, "/hash?n=1", "a").await;
    let base = producer.base.clone();
    let slow = tokio::spawn(async move {
        let request = Request::get(format!("{base}/hash?n=500000")).body(Full::default()).unwrap();
        send(request, false).await
    });
    // The connection must be accepted before the listener goes: the next answer on this core proves the job is in.
    get(&producer, "/hash?n=1", "a").await;
    producer.stop.send(()).unwrap();
    assert_eq!(slow.await.unwrap().status(), StatusCode::OK);
    producer.served.await.unwrap().unwrap();
}
