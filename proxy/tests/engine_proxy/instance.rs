//! Instances to forward to: a hyper server that does what the path says, and a few that misbehave.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Body = BoxBody<Bytes, Failure>;

/// Aborted when dropped, like a producer killed with its connections.
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// HTTP/1.1 and HTTP/2 with prior knowledge.
///
/// - `/api/head` answers with the request's version, method, path and headers as text
/// - `/api/echo` sends the body back as it comes
/// - `/api/count` answers with the body's length
/// - `/api/big` sends 8 MiB
/// - `/api/status/N` answers with status N
/// - `/api/sleep/MS` answers after MS milliseconds
/// - `/api/report/N` answers with load report N of [`REPORTS`]; the last comes as a trailer, and
///   beyond it is a lie
/// - `/api/stall` sends a head and one chunk and then nothing more
pub(crate) async fn start() -> Instance {
    slow(Duration::ZERO).await
}

/// The same, but each answer comes so much later.
pub(crate) async fn slow(by: Duration) -> Instance {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let serving = auto::Builder::new(TokioExecutor::new());
                let late = service_fn(move |request| async move {
                    tokio::time::sleep(by).await;
                    answer(request).await
                });
                let _ = serving.serve_connection(TokioIo::new(stream), late).await;
            });
        }
    });
    Instance { address, task }
}

/// Accepts, reads the request, and closes without a word.
pub(crate) async fn mute() -> Instance {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 1024];
            let _ = stream.read(&mut some).await;
        }
    });
    Instance { address, task }
}

/// An address where nothing listens.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// What [`start`] serves.
pub(crate) fn service() -> impl Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Body>, Infallible>> + Send,
> + Send {
    service_fn(answer)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let rest = path.rsplit('/').next().and_then(|last| last.parse::<u64>().ok()).unwrap_or(0);
    Ok(match path.split('/').nth(2).unwrap_or("") {
        "head" => whole(describe(&request)),
        "echo" => Response::new(request.into_body().map_err(Failure::from).boxed()),
        "count" => {
            let mut body = request.into_body();
            let mut length = 0;
            while let Some(Ok(frame)) = body.frame().await {
                length += frame.data_ref().map_or(0, Bytes::len);
            }
            whole(length.to_string())
        }
        "big" => {
            let chunk = || Ok(Frame::data(Bytes::from(vec![b'x'; 64 * 1024])));
            Response::new(StreamBody::new(futures_util::stream::iter((0..128).map(move |_| chunk()))).boxed())
        }
        "status" => {
            let mut response = whole("as asked\n".to_owned());
            *response.status_mut() = http::StatusCode::from_u16(rest as u16).unwrap();
            response
        }
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(rest)).await;
            whole("rested\n".to_owned())
        }
        "report" => reporting(rest as usize),
        "stall" => {
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            tokio::spawn(async move {
                let _ = sender.send(Ok(Frame::data(Bytes::from_static(b"begun")))).await;
                sender.closed().await;
            });
            Response::new(StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver)).boxed())
        }
        _ => whole("ok\n".to_owned()),
    })
}

/// Says that 4,095 requests are in flight, all of them light.
const LIE: (&str, &str) =
    ("endpoint-load-metrics", "JSON {\"named_metrics\":{\"fa\":15,\"fb\":4398042316800}}");

/// Headers or trailers with load reports: text, JSON, nonsense, and gRPC's way.
pub(crate) const REPORTS: [(&str, &str); 4] = [
    ("endpoint-load-metrics", "TEXT cpu_utilization=0.25,request_cost.cpu_seconds=0.005"),
    ("endpoint-load-metrics", r#"JSON {"cpu_utilization":0.25,"request_cost":{"cpu_seconds":0.005}}"#),
    ("endpoint-load-metrics", "JSON {"),
    // cpu_utilization 0.25, request_cost {"cpu_seconds": 0.005}
    ("endpoint-load-metrics-bin", "CQAAAAAAANA/IhYKC2NwdV9zZWNvbmRzEXsUrkfhenQ/"),
];

fn reporting(which: usize) -> Response<Body> {
    let (name, value) = REPORTS.get(which).copied().unwrap_or(LIE);
    let value = http::HeaderValue::from_static(value);
    if which != REPORTS.len() - 1 {
        let mut response = whole("reported\n".to_owned());
        response.headers_mut().insert(name, value);
        return response;
    }
    let trailers = http::HeaderMap::from_iter([(http::HeaderName::from_static(name), value)]);
    let frames = [Frame::data(Bytes::from_static(b"reported\n")), Frame::trailers(trailers)];
    Response::new(StreamBody::new(futures_util::stream::iter(frames.map(Ok))).boxed())
}

fn whole(text: String) -> Response<Body> {
    Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed())
}

fn describe(request: &Request<Incoming>) -> String {
    let mut text = format!("{:?} {} {}\n", request.version(), request.method(), request.uri().path());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("?")));
    }
    text
}
