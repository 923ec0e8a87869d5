//! Upgrades: a tunnel of messages both ways.

use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::Request;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, connect_async};

use crate::client::{get, http1, send};
use crate::instance;
use crate::world::{PATIENCE, World};

/// Greets, then says everything again.
async fn echo(stream: TcpStream) {
    let mut socket = accept_async(stream).await.unwrap();
    socket.send(Message::text("welcome")).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() || message.is_binary() {
            socket.send(message).await.unwrap();
        }
    }
}

/// Talks through the proxy and takes its leave.
async fn talk(world: &World, sizes: &[usize]) {
    let (mut socket, response) = connect_async(format!("ws://{}/api/chat", world.address)).await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("welcome"));
    for &size in sizes {
        let message = Message::binary(vec![7; size]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
}

#[tokio::test]
async fn messages_pass_both_ways_until_the_close() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { echo(listener.accept().await.unwrap().0).await });
    let world = World::start(&[address]);
    timeout(PATIENCE, talk(&world, &[1, 1_000, 200_000])).await.expect("the conversation ends");
    timeout(PATIENCE, serving).await.expect("the other side heard the close").unwrap();
    let seen = world.observed(1).await;
    assert_eq!((seen[0].status, seen[0].attained_us), (101, 0.0), "how long people talk is no cost");
    world.at_rest().await;
}

/// With more threads than processors, instances often answer before the proxy's thread goes on. Without `guard::upgrade`
/// Pingora then closes tunnels that have just been opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tunnels_hold_however_soon_the_instance_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    let world = World::start(&[address]);
    for _ in 0..20 {
        let tunnels = join_all((0..50).map(|_| talk(&world, &[10])));
        timeout(PATIENCE, tunnels).await.expect("all conversations end");
    }
    world.at_rest().await;
}

#[tokio::test]
async fn an_instance_may_decline_to_switch() {
    let instance = instance::start().await;
    let world = World::start(&[instance.address]);
    let client = http1();
    for _ in 0..3 {
        let request = Request::get(world.url("/api/chat"))
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .body(Full::default());
        assert_eq!(send(&client, request.unwrap()).await.status(), 200);
    }
    assert_eq!(get(&client, &world.url("/api/head")).await.status(), 200);
    world.at_rest().await;
}
