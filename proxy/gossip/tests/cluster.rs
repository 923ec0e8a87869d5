//! Proxies and liars on real sockets of loopback. Everything waits until it has come true, generously.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chitchat::transport::{Socket as _, UdpSocket, UdpTransport};
use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, DeletionStatus, FailureDetectorConfig,
    ProtocolVersion, VersionedValue, spawn_chitchat,
};
use foretide_conf::parse::parse;
use foretide_conf::settings::GossipSettings;
use foretide_conf::shipped;
use foretide_control::controller::Controller;
use foretide_control::hearsay::{Heard, MOST_POOLS};
use foretide_control::report::StatusReport;
use foretide_gossip::{Gossip, MOST_NODES};
use foretide_predictor::time::Timestamp;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(100);

/// A port that was free a moment ago.
async fn free() -> SocketAddr {
    let socket = UdpSocket::open(([127, 0, 0, 1], 0).into()).await.expect("loopback");
    socket.local_addr().expect("bound")
}

struct Proxy {
    heard: mpsc::Receiver<Heard>,
    task: JoinHandle<()>,
    _report: watch::Sender<Arc<StatusReport>>,
}

impl Proxy {
    async fn start(name: &str, listen: SocketAddr, seeds: &[SocketAddr]) -> Self {
        let gossip = Gossip::bind(&GossipSettings {
            listen,
            advertise: None,
            seeds: seeds.iter().map(SocketAddr::to_string).collect(),
            cluster: "test".to_owned(),
            interval: INTERVAL,
            node: Some(name.to_owned()),
        })
        .await
        .expect("bound");
        let routing = parse("init.toml", shipped::INIT).expect("shipped").0.routing;
        let report = Controller::new(routing, Timestamp::ZERO).report(Timestamp::ZERO);
        let (sender, receiver) = watch::channel(Arc::new(report));
        let (to, heard) = mpsc::channel(1);
        let began = std::time::Instant::now();
        let now = move || Timestamp::from_us(1 + began.elapsed().as_micros() as u64);
        Self { heard, task: tokio::spawn(gossip.run(receiver, to, now)), _report: sender }
    }

    /// Listens until a round is as wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let mut last = None;
        let listening = async {
            loop {
                let heard = self.heard.recv().await.expect("it gossips on");
                if wanted(&heard) {
                    return heard;
                }
                last = Some(heard);
            }
        };
        match timeout(PATIENCE, listening).await {
            Ok(heard) => heard,
            Err(_) => panic!("waited in vain until {what}; last heard {last:?}"),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Somebody who speaks the protocol and says what he likes.
async fn liar(seeds: &[SocketAddr]) -> ChitchatHandle {
    let address = free().await;
    let config = ChitchatConfig {
        chitchat_id: ChitchatId::new("liar", 1, address),
        cluster_id: "test".to_owned(),
        gossip_interval: INTERVAL,
        listen_addr: address,
        seed_nodes: seeds.iter().map(SocketAddr::to_string).collect(),
        failure_detector_config: FailureDetectorConfig { initial_interval: INTERVAL, ..Default::default() },
        marked_for_deletion_grace_period: PATIENCE,
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V0,
    };
    spawn_chitchat(config, Vec::new(), &UdpTransport).await.expect("bound")
}

fn knows(name: &str) -> impl Fn(&Heard) -> bool {
    move |heard| heard.members.iter().any(|member| member.name == name && !member.pools.is_empty())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_find_each_other_by_one_seed_and_miss_the_one_that_is_gone() {
    let first = free().await;
    let mut a = Proxy::start("a", first, &[]).await;
    let mut b = Proxy::start("b", free().await, &[first]).await;
    let c = Proxy::start("c", free().await, &[first]).await;
    let both = |x: &'static str, y: &'static str| move |heard: &Heard| knows(x)(heard) && knows(y)(heard);
    let heard = a.until("a knows b and c", both("b", "c")).await;
    assert_eq!((heard.node.as_str(), &heard.address), ("a", &first.to_string()));
    b.until("b knows a and c", both("a", "c")).await;
    let beat =
        |heard: &Heard| heard.members.iter().find(|member| member.name == "c").map(|member| member.beat);
    let early = beat(&heard);
    a.until("the beat moves", move |heard| beat(heard) > early).await;
    drop(c);
    b.until("c is gone", |heard| !knows("c")(heard) && knows("a")(heard)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_liar_says_is_bounded() {
    let first = free().await;
    let mut a = Proxy::start("a", first, &[]).await;
    let liar = liar(&[first]).await;
    liar.with_chitchat(|cluster| {
        let own = cluster.self_node_state();
        (0..100).for_each(|pool| {
            own.set(format!("pool/{pool}"), "[{\"a\": \"10.0.0.1:80\", \"r\": 1e300, \"n\": 99}]")
        });
        own.set("pool/000", "[".repeat(60_000));
        own.set("pool/long", format!("[{}]", "{\"a\":\"x\"},".repeat(3_000)));
        own.set("beat", "many");
    })
    .await;
    let heard = a.until("the liar is heard", knows("liar")).await;
    let pools = &heard.members[0].pools;
    assert!(pools.len() <= MOST_POOLS && pools.values().all(|words| words.is_empty()), "{pools:?}");
    liar.shutdown().await.expect("ended");
}

/// The protocol counts versions, and whoever says that this proxy's own has come to the last one leaves it none to write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_put_into_its_own_mouth_end_a_session_and_no_more() {
    let first = free().await;
    let mut a = Proxy::start("a", first, &[]).await;
    let liar = liar(&[first]).await;
    a.until("the liar is there", |heard| heard.members.iter().any(|member| member.name == "liar")).await;
    let generation = |cluster: &Chitchat| cluster.live_nodes().find(|id| &*id.node_id == "a").cloned();
    let poison = async {
        let mut poisoned = None;
        loop {
            let met = liar.with_chitchat(|cluster| generation(cluster)).await;
            match (&poisoned, met) {
                (None, Some(id)) => {
                    let end = u64::MAX - 1;
                    liar.with_chitchat(|cluster| {
                        let word = VersionedValue {
                            value: "0".to_owned(),
                            version: end,
                            status: DeletionStatus::Set,
                        };
                        let words = [("beat".to_owned(), word)].into_iter();
                        cluster.reset_node_state_if_update(&id, words, end, end);
                    })
                    .await;
                    poisoned = Some(id);
                }
                (Some(old), Some(new)) if new.generation_id > old.generation_id => return,
                _ => {}
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    timeout(PATIENCE, poison).await.expect("it comes back as a new generation");
    liar.shutdown().await.expect("ended");
    let mut b = Proxy::start("b", free().await, &[first]).await;
    a.until("a knows b", knows("b")).await;
    b.until("b knows a", knows("a")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_somebody_makes_up_is_thrown_away() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    metrics::set_global_recorder(recorder).expect("the only recorder of this program");
    let first = free().await;
    let mut a = Proxy::start("a", first, &[]).await;
    let liar = liar(&[first]).await;
    liar.with_chitchat(|cluster| {
        for number in 0..=MOST_NODES {
            let id = ChitchatId::new(format!("made-up-{number}"), 1, ([127, 0, 0, 1], 9).into());
            cluster.reset_node_state_if_update(&id, std::iter::empty(), 1, 0);
        }
    })
    .await;
    let thrown_away = |_: &Heard| {
        let text = metrics.render();
        text.lines().any(|line| line.starts_with("foretide_gossip_restarts_total") && !line.ends_with(" 0"))
    };
    a.until("it has begun anew and goes on", thrown_away).await;
    liar.shutdown().await.expect("ended");
    let mut b = Proxy::start("b", free().await, &[first]).await;
    a.until("a knows b", knows("b")).await;
    b.until("b knows a", |heard| knows("a")(heard) && heard.members.len() == 1).await;
}
