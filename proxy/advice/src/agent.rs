//! An agent for HAProxy's `agent-check`: one connection, one line, how an instance does.
//!
//! HAProxy asks per server and says what `agent-send` holds; we take that for the name of an instance, so one port answers
//! for all of them (`server a 10.0.0.7:80 agent-check agent-addr … agent-port … agent-send "10.0.0.7:80\n"`). `POOL ADDRESS`
//! tells pools apart that share an instance. Where nothing is sent the answer is about this proxy itself, for a HAProxy in
//! front of several of them. The words are HAProxy's (configuration manual, "agent-check"):
//!
//! | state | answer |
//! |---|---|
//! | takes requests | `up ready 75%`: of its configured weight, so much of what the best one gets |
//! | finishes what it has | `up drain` |
//! | fails its checks, is ejected, starts | `down #why` |
//! | not known here | an empty line, which changes nothing: a misspelt name must not take a server out |
//!
//! Bounded: so many connections at a time, a short line, a short wait.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use foretide_control::report::InstanceReport;
use foretide_routing::table::InstanceState;
use metrics::{counter, describe_counter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Advice;

const CHECKS: &str = "foretide_agent_checks_total";
/// Checks answered at a time.
const MOST_CHECKS: usize = 256;
/// Longest line that is read: a pool's name and an address.
const LONGEST_LINE: usize = 320;
/// HAProxy sends what it sends with its first packet; who has sent nothing by then sends nothing.
const LINE_WAIT: Duration = Duration::from_millis(200);
/// A checker that does not take its answer is cut off.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Out of descriptors, most likely: give connections a moment to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Says what the metrics mean.
pub(super) fn describe() {
    describe_counter!(CHECKS, "Agent checks answered, by answer");
}

/// Answers until `shutdown` completes.
pub async fn serve(listener: TcpListener, advice: Arc<Advice>, shutdown: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(MOST_CHECKS));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let advice = Arc::clone(&advice);
        tokio::spawn(async move {
            // A checker that goes away before its answer asks again.
            let _ = timeout(ANSWER_WAIT, exchange(stream, &advice)).await;
            drop(place);
        });
    }
}

async fn exchange(mut stream: TcpStream, advice: &Advice) -> std::io::Result<()> {
    let mut line = Vec::with_capacity(64);
    let read = async {
        let mut some = [0; LONGEST_LINE];
        while line.len() < LONGEST_LINE && !line.contains(&b'\n') {
            match stream.read(&mut some).await? {
                0 => break,
                count => line.extend_from_slice(&some[..count]),
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // What has come by then is all there is: also a name whose line feed was forgotten.
    timeout(LINE_WAIT, read).await.unwrap_or(Ok(()))?;
    line.truncate(LONGEST_LINE);
    let asked = String::from_utf8_lossy(&line);
    let answer = advice.agent_answer(asked.lines().next().unwrap_or_default());
    stream.write_all(format!("{answer}\n").as_bytes()).await?;
    stream.shutdown().await
}

impl Advice {
    /// What an agent says to a checker that asked this.
    pub fn agent_answer(&self, asked: &str) -> String {
        let words: Vec<&str> = asked.split_whitespace().collect();
        let (kind, answer) = match words[..] {
            [] if self.is_ready() => ("up", "up ready 100%".to_owned()),
            [] => ("drain", "up drain".to_owned()),
            [address] => self.about(None, address),
            [pool, address] => self.about(Some(pool), address),
            _ => ("unknown", String::new()),
        };
        counter!(CHECKS, "answer" => kind).increment(1);
        answer
    }

    fn about(&self, pool: Option<&str>, address: &str) -> (&'static str, String) {
        let weights = self.weights(pool);
        let mut serving = weights.iter().flat_map(|all| &all.pools).flat_map(|pool| &pool.instances);
        if let Some(instance) = serving.find(|instance| instance.address == address) {
            return ("up", format!("up ready {}%", instance.percent));
        }
        let report = self.report();
        let pools = report.pools.iter().filter(|known| pool.is_none_or(|name| name == known.name));
        let mut known = pools.flat_map(|pool| &pool.instances);
        known
            .find(|instance| instance.address.as_deref() == Some(address))
            .map_or(("unknown", String::new()), idle)
    }
}

/// About an instance that gets no requests.
fn idle(instance: &InstanceReport) -> (&'static str, String) {
    let why = match instance.state {
        InstanceState::Draining => return ("drain", "up drain".to_owned()),
        InstanceState::Cold | InstanceState::Warming => "starting",
        InstanceState::Unhealthy => "fails its health checks",
        InstanceState::Ejected => "ejected for failing requests",
        // In the next table.
        InstanceState::Warm => return ("unknown", String::new()),
        InstanceState::Gone => "gone",
    };
    ("down", format!("down #{why}"))
}
