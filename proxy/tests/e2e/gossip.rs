//! Proxies in front of the same instances hear of each other: who is there, and who of the instances is slow.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use serde_json::Value;

use crate::client::{eventually, get};
use crate::foretide::{Foretide, config};
use crate::load::Load;
use crate::producer::{Producer, endpoints};
use crate::turn;

/// The last of the producers has a quarter of the others' speed.
const SPEEDS: [f64; 3] = [0.4, 0.4, 0.1];
const SLOW: usize = 2;

fn proxy(folder: &Path, producers: &[Producer], seeds: &[SocketAddr]) -> Foretide {
    let seeds: Vec<String> = seeds.iter().map(|seed| format!("\"{seed}\"")).collect();
    // In turns, so that the slow one is measured like the others.
    let pool = format!("policy = \"round-robin\"\n{}", endpoints(producers));
    let gossip =
        format!("[gossip]\nlisten = \"127.0.0.1:0\"\ninterval = \"200ms\"\nseeds = [{}]\n", seeds.join(", "));
    Foretide::with(folder, &format!("{}\n{gossip}", config(&pool)))
}

fn address(proxy: &Foretide) -> SocketAddr {
    eventually("it says where it gossips", || {
        proxy.api("/api/v1/members")["address"].as_str().map(|address| address.parse().expect("an address"))
    })
}

fn pool(proxy: &Foretide) -> Value {
    proxy.api("/api/v1/producers")["pools"][0].clone()
}

fn slow_one(proxy: &Foretide, producers: &[Producer]) -> Value {
    let wanted = producers[SLOW].address.to_string();
    let pool = pool(proxy);
    let instances = pool["instances"].as_array().expect("instances");
    instances.iter().find(|one| one["address"] == wanted.as_str()).cloned().expect("the slow one")
}

fn until_members(proxy: &Foretide, count: usize) {
    eventually(&format!("it knows {count} other proxies"), || {
        let members = proxy.api("/api/v1/members");
        members["members"].as_array().filter(|members| members.len() == count).map(|_| ())
    });
}

#[test]
fn a_new_proxy_learns_from_another_who_is_slow_and_forgets_it_when_it_is_gone() {
    let _turn = turn::take();
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let producers = Producer::start_all(&SPEEDS);
    let first = proxy(folders[0].path(), &producers, &[]);
    let seed = address(&first);
    until_members(&first, 0);
    let load = Load::start(first.proxy, 30.0, &["/hash?n=5000"]);
    eventually("the first has measured all three", || {
        let measured = |one: &Value| one["speed_samples"].as_u64() >= Some(50);
        let all = pool(&first)["instances"].as_array().expect("instances").iter().all(measured);
        (all && slow_one(&first, &producers)["speed"].as_f64() < Some(0.8)).then_some(())
    });
    load.stop();

    let second = proxy(folders[1].path(), &producers, &[seed]);
    let told = eventually("the second is told who is slow", || {
        Some(slow_one(&second, &producers)).filter(|slow| slow["speed"].as_f64() < Some(0.8))
    });
    assert_eq!((told["requests"].as_u64(), told["speed_samples"].as_u64()), (Some(0), Some(0)), "{told}");
    assert!(told["heard"]["slowness"].as_f64() > Some(0.2) && told["heard"]["proxies"] == 1, "{told}");
    for proxy in [&first, &second] {
        until_members(proxy, 1);
        eventually("both know that two send to the pool", || {
            (pool(proxy)["proxies"] == 2 && proxy.metric("foretide_gossip_members", &[]) == Some(2.0))
                .then_some(())
        });
    }
    assert!(slow_one(&first, &producers)["heard"]["slowness"].is_null(), "hearsay is not passed on");

    let log = first.stop();
    assert!(log.contains("proxy joined the cluster"), "{log}");
    until_members(&second, 0);
    eventually("the second forgets what it was told", || {
        let slow = slow_one(&second, &producers);
        (slow["heard"].is_null() && slow["speed"] == 1.0 && pool(&second)["proxies"] == 1).then_some(())
    });
    let log = second.stop();
    assert!(log.contains("proxy left the cluster"), "{log}");
}

#[test]
fn garbage_on_the_gossip_port_harms_nobody() {
    let _turn = turn::take();
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let producers = Producer::start_all(&[1.0]);
    let first = proxy(folders[0].path(), &producers, &[]);
    let target = address(&first);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    // Nonsense, and beginnings of messages: magic number, version, kind, and lengths that promise more than comes.
    let magic = 45_139_u16.to_le_bytes();
    for number in 0..400_u32 {
        let mut datagram = magic.to_vec();
        datagram.extend((0..number % 97).map(|at| (number.wrapping_mul(31).wrapping_add(at * at)) as u8));
        socket.send_to(&datagram[usize::from(number % 3 == 0)..], target).expect("sent");
    }
    let second = proxy(folders[1].path(), &producers, &[target]);
    until_members(&second, 1);
    until_members(&first, 1);
    assert_eq!(get(first.proxy, "/hash?n=100").status, 200);
    assert!(!first.log().contains("invalid-chitchat-payload"), "{}", first.log());
    second.stop();
    first.stop();
}
