//! Load reports out of band: instances that are gRPC servers say, as often as they are asked to, how much of themselves is
//! in use (`xds.service.orca.v3.OpenRcaService/StreamCoreMetrics`; gRPC's proposal A51).
//!
//! ```text
//! request: a frame with OrcaLoadReportRequest { report_interval }      response: frame after frame, an OrcaLoadReport each
//! frame:   1 byte 0 (not compressed), 4 bytes length, big-endian, message
//! ```
//!
//! One stream an instance, for as long as it is in service. One that breaks off is opened again after a second, then twice
//! as long each time up to a minute; every report puts that back to a second. Who does not know the service is a stream that
//! breaks off. Always HTTP/2, whatever the pool's requests speak: gRPC knows nothing else. Of what an instance sends at most
//! 4 KiB are held; reports that nobody takes are dropped, as the next one is fresher.
//!
//! Known weakness: costs are not in it, as no request is; they come with answers only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use foretide_predictor::id::InstanceId;
use foretide_routing::observe::Utilisation;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use metrics::{Unit, counter, describe_counter};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::probe::ProbeTarget;
use super::tls::Authorities;

const PATH: &str = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics";
const REPORTS: &str = "foretide_load_stream_reports_total";
/// A frame's head.
const HEAD: usize = 5;
/// A longer report is none: a full one with a dozen named numbers has a few hundred bytes.
const LONGEST: usize = 4_096;
/// Until a broken stream is opened again, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A connection, and the answer's head, take no longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Listens to all targets that shall stream, until their sender or the receiver of results is gone.
pub async fn run(
    mut targets: watch::Receiver<Vec<ProbeTarget>>,
    results: mpsc::Sender<(InstanceId, Utilisation)>,
) {
    describe_counter!(REPORTS, Unit::Count, "Load reports out of band by result: read, broken, dropped");
    let authorities = Arc::new(Authorities::default());
    let mut streams = JoinSet::new();
    let mut known = BTreeMap::new();
    loop {
        let wanted: BTreeMap<_, _> = (targets.borrow_and_update().iter())
            .filter_map(|target| Some(((target.instance, target.load_stream?), target.clone())))
            .collect();
        known.retain(|key, (target, handle): &mut (ProbeTarget, tokio::task::AbortHandle)| {
            let stays = wanted
                .get(key)
                .is_some_and(|wanted| (&wanted.address, &wanted.speech) == (&target.address, &target.speech));
            if !stays {
                handle.abort();
            }
            stays
        });
        for (key, target) in wanted {
            known.entry(key).or_insert_with(|| {
                let listening = listen(target.clone(), key.1, Arc::clone(&authorities), results.clone());
                (target, streams.spawn(listening))
            });
        }
        tokio::select! {
            changed = targets.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            Some(_ended) = streams.join_next() => {}
            () = results.closed() => return,
        }
    }
}

/// Opens the stream again and again.
async fn listen(
    target: ProbeTarget,
    every: Duration,
    authorities: Arc<Authorities>,
    results: mpsc::Sender<(InstanceId, Utilisation)>,
) {
    let mut pause = PAUSES.0;
    loop {
        let opened = timeout(PATIENCE, open(&target, every, &authorities)).await.ok().flatten();
        if let Some(body) = opened
            && relay(body, target.instance, &results).await
        {
            pause = PAUSES.0;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn open(target: &ProbeTarget, every: Duration, authorities: &Authorities) -> Option<Incoming> {
    let stream = TcpStream::connect(&target.address).await.ok()?;
    match &target.speech.tls {
        None => ask(stream, "http", &target.address, every).await,
        Some(names) => {
            let stream = authorities.connect(names, true, stream).await?;
            ask(stream, "https", &names.server_name, every).await
        }
    }
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    scheme: &str,
    host: &str,
    every: Duration,
) -> Option<Incoming> {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
    // Ends when the answer's body and the sender are dropped.
    tokio::spawn(connection);
    let request = Request::post(format!("{scheme}://{host}{PATH}"))
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .body(Full::new(wish(every)))
        .ok()?;
    let answer = sender.send_request(request).await.ok()?;
    answer.status().is_success().then(|| answer.into_body())
}

/// The request's frame: field 1 is a Duration, whose fields are 1, seconds, and 2, nanoseconds.
fn wish(every: Duration) -> Bytes {
    let mut duration = BytesMut::new();
    for (field, value) in [(1, every.as_secs()), (2, u64::from(every.subsec_nanos()))] {
        duration.put_u8(field << 3);
        put_varint(&mut duration, value);
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(2 + duration.len() as u32);
    frame.put_u8(1 << 3 | 2);
    // Two numbers and their tags are less than 128 bytes: one byte of length.
    frame.put_u8(duration.len() as u8);
    frame.put(duration);
    frame.freeze()
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Hands on what comes until the stream ends; whether anything came.
async fn relay(
    mut body: Incoming,
    instance: InstanceId,
    results: &mpsc::Sender<(InstanceId, Utilisation)>,
) -> bool {
    let count = |result: &'static str| counter!(REPORTS, "result" => result).increment(1);
    let (mut held, mut any) = (BytesMut::new(), false);
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { break };
        held.extend_from_slice(&data);
        loop {
            match cut(&mut held) {
                Cut::More => break,
                Cut::Broken => {
                    count("broken");
                    return any;
                }
                Cut::Message(message) => match foretide_orca::read_message(&message) {
                    None => count("broken"),
                    Some(reported) => {
                        any = true;
                        let taken = results.try_send((instance, reported.utilisation)).is_ok();
                        count(if taken { "read" } else { "dropped" });
                    }
                },
            }
        }
    }
    any
}

/// What lies at the begin of what was received.
#[derive(Debug, PartialEq)]
enum Cut {
    Message(Bytes),
    /// The rest is still to come.
    More,
    /// Compressed, or too long.
    Broken,
}

fn cut(held: &mut BytesMut) -> Cut {
    let Some(head) = held.get(..HEAD) else { return Cut::More };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if head[0] != 0 || length > LONGEST {
        return Cut::Broken;
    }
    if held.len() < HEAD + length {
        return Cut::More;
    }
    held.advance(HEAD);
    Cut::Message(held.split_to(length).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wish_is_a_frame_with_a_duration() {
        assert_eq!(
            wish(Duration::from_millis(1_500))[..],
            [0, 0, 0, 0, 10, 10, 8, 8, 1, 16, 0x80, 0xca, 0xb5, 0xee, 0x01]
        );
        assert_eq!(wish(Duration::from_secs(1))[..], [0, 0, 0, 0, 6, 10, 4, 8, 1, 16, 0]);
    }

    #[test]
    fn frames_are_cut_wherever_they_were_torn_and_hostile_ones_end_the_stream() {
        let mut held = BytesMut::new();
        let mut cuts = Vec::new();
        for byte in [0, 0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0] {
            held.put_u8(byte);
            match cut(&mut held) {
                Cut::More => {}
                other => cuts.push(other),
            }
        }
        assert_eq!(cuts, [Cut::Message(Bytes::from_static(&[7, 8])), Cut::Message(Bytes::new())]);
        assert_eq!(held[..], [0]);
        for hostile in [[1, 0, 0, 0, 1], [0, 0xff, 0xff, 0xff, 0xff], [0, 0, 0, 0x10, 1]] {
            assert_eq!(cut(&mut BytesMut::from(&hostile[..])), Cut::Broken);
        }
    }
}
