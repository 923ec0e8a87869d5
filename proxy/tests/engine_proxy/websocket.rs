//! Upgrades: a tunnel of messages both ways.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, connect_async};

use crate::world::{PATIENCE, World};

#[tokio::test]
async fn messages_pass_both_ways_until_the_close() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = accept_async(stream).await.unwrap();
        socket.send(Message::text("welcome")).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.unwrap();
            }
        }
    });
    let world = World::start(&[address]);
    let conversation = async {
        let (mut socket, response) = connect_async(format!("ws://{}/api/chat", world.address)).await.unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("welcome"));
        for size in [1, 1_000, 200_000] {
            let message = Message::binary(vec![7; size]);
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), message);
        }
        socket.close(None).await.unwrap();
        while let Some(Ok(_)) = socket.next().await {}
    };
    timeout(PATIENCE, conversation).await.expect("the conversation ends");
    timeout(PATIENCE, serving).await.expect("the other side heard the close").unwrap();
    let seen = world.observed(1).await;
    assert_eq!((seen[0].status, seen[0].attained_us), (101, 0.0), "how long people talk is no cost");
    world.at_rest().await;
}
