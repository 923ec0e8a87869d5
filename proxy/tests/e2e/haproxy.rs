//! A real HAProxy that does not forward to us, and weighs its servers by our word: agent checks and leases.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::client::{ask, eventually, get, post};
use crate::foretide::{Foretide, HEAD, ROUTE};
use crate::outside_tool;
use crate::ports;
use crate::producer::{Producer, endpoints};
use crate::turn;

const TOOL: (&str, &str) = ("FORETIDE_HAPROXY", "HAProxy's binary (Debian's package haproxy)");

/// Killed when dropped.
struct Haproxy {
    child: Child,
    front: SocketAddr,
    stats: SocketAddr,
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // One that has ended needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Haproxy {
    fn start(binary: &Path, folder: &Path, servers: &[Producer], agent: SocketAddr) -> Self {
        let first = ports::neighbours(2);
        let [front, stats] = [first, first + 1].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut config = format!(
            "global\n  stats socket ipv4@{stats} level admin\ndefaults\n  mode http\n  timeout connect 1s\n  \
             timeout client 5s\n  timeout server 5s\nfrontend front\n  bind {front}\n  default_backend back\nbackend back\n"
        );
        for (number, server) in servers.iter().enumerate() {
            let address = server.address;
            config += &format!(
                "  server s{number} {address} weight 100 agent-check agent-inter 200ms agent-addr {} agent-port {} \
                 agent-send \"{address}\\n\"\n",
                agent.ip(),
                agent.port()
            );
        }
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, config).expect("written");
        let child = Command::new(binary)
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .expect("HAProxy starts");
        Self { child, front, stats }
    }

    /// Status and weight of a server, as HAProxy shows them.
    fn server(&self, name: &str) -> Option<(String, u32)> {
        let mut stream = TcpStream::connect(self.stats).ok()?;
        stream.write_all(b"show stat\n").ok()?;
        let mut table = String::new();
        stream.read_to_string(&mut table).ok()?;
        let mut lines =
            table.lines().map(|line| line.trim_start_matches("# ").split(',').collect::<Vec<_>>());
        let header = lines.next()?;
        let column = |name: &str| header.iter().position(|held| *held == name);
        let (svname, status, weight) = (column("svname")?, column("status")?, column("weight")?);
        let row = lines.find(|row| row.get(svname) == Some(&name))?;
        Some((row.get(status)?.to_string(), row.get(weight)?.parse().ok()?))
    }

    fn until(&self, what: &str, name: &str, so: impl Fn(&str, u32) -> bool) {
        eventually(&format!("{name} {what}"), || {
            self.server(name).filter(|(status, weight)| so(status, *weight)).map(drop)
        });
    }
}

#[test]
fn haproxy_weighs_its_servers_as_the_agent_says() {
    let Some(binary) = outside_tool::find(TOOL.0, TOOL.1) else { return };
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    let mut producers = Producer::start_all(&[0.3, 0.3]);
    let agent = SocketAddr::from(([127, 0, 0, 1], ports::neighbours(1)));
    let config = format!(
        "{HEAD}\n[agent_check]\nlisten = \"{agent}\"\n{ROUTE}\n[pools.work]\nslow_start = \"0s\"\nconcurrency = 1\n{}\n\
         [pools.work.health]\nevery = \"200ms\"\nunhealthy_after = 2\n",
        endpoints(&producers)
    );
    let foretide = Foretide::with(folder.path(), &config);
    let haproxy = Haproxy::start(&binary, folder.path(), &producers, agent);
    // It checks them only through the agent, and then calls those that are up "no check".
    let full = |status: &str, weight| status == "no check" && weight == 100;
    for server in ["s0", "s1"] {
        haproxy.until("is up with its whole weight", server, full);
    }
    assert_eq!(get(haproxy.front, "/hash?n=10").status, 200);

    let lease =
        post(foretide.admin, "/api/v1/leases", r#"{"pool": "work", "work_ms": 60000, "ttl_ms": 60000}"#);
    assert_eq!(lease.status, 201, "{lease:?}");
    let lease = lease.json();
    let leased = usize::from(lease["address"] != producers[0].address.to_string());
    let [leased, other] = [leased, 1 - leased].map(|number| format!("s{number}"));
    haproxy.until("weighs less while it is leased", &leased, |status, weight| {
        status == "no check" && weight < 60
    });
    haproxy.until("keeps its weight", &other, full);
    let path = format!("/api/v1/leases/{}", lease["lease"].as_str().expect("a name"));
    assert_eq!(ask(http::Method::DELETE, foretide.admin, &path, "").expect("an answer").status, 200);
    haproxy.until("has its whole weight again", &leased, full);

    let body = r#"{"pool": "work"}"#;
    let lease = ask(http::Method::POST, foretide.admin, "/api/v1/leases", body).expect("an answer").json();
    let path = format!("/api/v1/leases/{}?outcome=ok", lease["lease"].as_str().expect("a name"));
    assert_eq!(
        ask(http::Method::DELETE, foretide.admin, &path, "").expect("an answer").json()["learned"],
        true
    );
    eventually("what did not come through has been learned from", || {
        let decisions = foretide.api("/api/v1/decisions");
        (decisions["routing"][0]["instance"] == lease["instance"]).then_some(())
    });

    producers[1].kill();
    haproxy.until("is down once its checks fail", "s1", |status, _| status == "DOWN (agent)");
    assert!(foretide.metric("foretide_agent_checks_total", &["answer=\"down\""]) >= Some(1.0));
    foretide.stop();
}
