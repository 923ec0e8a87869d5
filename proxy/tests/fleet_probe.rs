//! Health checks against real sockets.

use std::time::Duration;

use foretide::fleet::probe::{self, ProbeTarget};
use foretide_predictor::id::InstanceId;
use foretide_routing::settings::HealthSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

fn target(id: u32, address: String, path: Option<&str>) -> ProbeTarget {
    let health = HealthSettings {
        path: path.map(str::to_owned),
        every: Duration::from_millis(20),
        timeout: Duration::from_millis(500),
        unhealthy_after: 2,
        healthy_after: 2,
    };
    ProbeTarget { instance: InstanceId(id), address, health }
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
