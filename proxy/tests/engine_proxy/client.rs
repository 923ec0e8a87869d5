//! Clients: hyper's for well-behaved ones, raw sockets for the others.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::PATIENCE;

pub(crate) type Http = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn http1() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

pub(crate) fn http2() -> Http {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

/// A GET; the response with its whole body as text.
pub(crate) async fn get(client: &Http, url: &str) -> Response<String> {
    send(client, Request::get(url).body(Full::default()).unwrap()).await
}

pub(crate) async fn post(client: &Http, url: &str, body: impl Into<Bytes>) -> Response<String> {
    send(client, Request::post(url).body(Full::new(body.into())).unwrap()).await
}

pub(crate) async fn send(client: &Http, request: Request<Full<Bytes>>) -> Response<String> {
    try_send(client, request).await.expect("an answer")
}

pub(crate) async fn try_send(
    client: &Http,
    request: Request<Full<Bytes>>,
) -> Result<Response<String>, String> {
    let whole = async {
        let response = client.request(request).await.map_err(|error| format!("{error:?}"))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
        Ok(Response::from_parts(head, String::from_utf8(body.to_vec()).unwrap()))
    };
    timeout(PATIENCE, whole).await.map_err(|_| "no answer at all".to_owned())?
}

/// Writes this and reads until the other side closes.
pub(crate) async fn raw(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end like any other.
    let _ =
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection is closed in time");
    String::from_utf8_lossy(&answer).into_owned()
}
