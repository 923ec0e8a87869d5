//! Sight shared between proxies: what this one says of the producer beside it, and what it hears from those it sends to.
//!
//! | side | when | what |
//! |---|---|---|
//! | says (`server.share_sight`) | with each forwarded answer, and on `GET /.well-known/foretide/load` | two named metrics of an ORCA header, [`foretide_steering::wire`] |
//! | hears (`pools.NAME.sight`) | from each answer, and from questions it has asked beside requests | the same |
//! | hears | with each request it sends | the work it predicts for it ([`WORK_HEADER`]) |
//!
//! The questions themselves are asked elsewhere; here they only go into a bounded queue, and are dropped and counted if it is
//! full. The answer to one is no request: no metric, no line in the log, no route.

use foretide_conf::settings::LOAD_PATH;
use foretide_predictor::hash::mix;
use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use foretide_routing::decide::Decision;
use foretide_routing::live::question::Question;
use foretide_routing::live::shown::{Shown, WORK_HEADER, told_us};
use foretide_routing::table::PoolTable;
use foretide_steering::buckets::whole_us;
use foretide_steering::wire;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use metrics::{Unit, counter, describe_counter, describe_histogram};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use tokio::sync::mpsc;

/// Questions on their way to whoever asks them: a millisecond of a busy proxy's. What waits longer is better asked anew.
pub const QUESTIONS: usize = 512;

const REPORT: HeaderName = HeaderName::from_static(wire::HEADER);
const WORK: HeaderName = HeaderName::from_static(WORK_HEADER);
const DROPPED: &str = "foretide_sight_probes_dropped_total";
pub(super) const AGE: &str = "foretide_sight_age_seconds";
/// A draw of its own for whom to ask.
const SALT: u64 = 0x7369_6768_7473_6565;

/// Says what each metric means.
pub(super) fn describe() {
    describe_counter!(DROPPED, "Questions to instances about their load that found too many before them");
    describe_histogram!(
        AGE,
        Unit::Seconds,
        "Age of what was known of others' requests on the chosen instance"
    );
}

/// Whether a request is the question how much is in flight here.
pub(super) fn is_asked(session: &Session) -> bool {
    let head = session.req_header();
    head.uri.path() == LOAD_PATH && head.method == Method::GET
}

/// Answers it.
pub(super) async fn answer(session: &mut Session, shown: &Shown) -> Result<()> {
    let mut head = ResponseHeader::build(StatusCode::NO_CONTENT, Some(2))?;
    head.insert_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    say(&mut head, shown)?;
    session.write_response_header(Box::new(head), true).await
}

/// Adds what is in flight here to an answer, behind what its producer may have said of itself.
pub(super) fn say(head: &mut ResponseHeader, shown: &Shown) -> Result<()> {
    let mut value = String::with_capacity(wire::MOST_BYTES);
    wire::write(&shown.report(), &mut value);
    // Braces, quotes and digits make a header value.
    if let Ok(value) = HeaderValue::try_from(value) {
        head.append_header(REPORT, value)?;
    }
    Ok(())
}

/// The work that a sender predicts for its request.
pub(super) fn told(session: &Session) -> Option<f64> {
    told_us(session.req_header().headers.get(&WORK)?.as_bytes())
}

/// Tells an instance what work is predicted, if its pool shares sight: it counts the request as this proxy does.
pub(super) fn tell(request: &mut RequestHeader, pool: &PoolTable, work_us: f32) -> Result<()> {
    if pool.sight.is_none() {
        return Ok(());
    }
    request.insert_header(WORK, HeaderValue::from(whole_us(f64::from(work_us))))
}

/// Reads what an instance says it has in flight; the last to speak is the nearest to this proxy.
pub(super) fn hear(headers: &HeaderMap, pool: &PoolTable, instance: InstanceId, now: Timestamp) {
    let (Some(sight), Ok(place)) = (&pool.sight, place(pool, instance)) else { return };
    let values = headers.get_all(&REPORT).iter();
    let said = values.filter_map(|value| wire::read(value.to_str().ok()?)).next_back();
    if let Some(report) = said {
        sight.hear(&pool.instances[place].live, &report, pool.instances.len(), now);
    }
}

/// Asks instances beside a request that has just been placed: those that looked best for it, but one, and one at random, or
/// what looks bad would never be looked at again.
pub(super) fn ask(
    queue: &mpsc::Sender<Question>,
    pool: &PoolTable,
    decision: &Decision,
    chance: u64,
    now: Timestamp,
) {
    let Some(settings) = &pool.settings.sight else { return };
    let best = decision.candidates.iter().flatten().filter_map(|one| place(pool, one.instance).ok());
    let best = best.filter_map(|place| Question::to(&pool.instances[place], pool, now));
    let drawn = ((u128::from(mix(chance ^ SALT)) * pool.instances.len() as u128) >> 64) as usize;
    let drawn = pool.instances.get(drawn).and_then(|entry| Question::to(entry, pool, now));
    let best_few = (settings.probes as usize).saturating_sub(1);
    for question in drawn.into_iter().filter(|_| settings.probes > 0).chain(best.take(best_few)) {
        if queue.try_send(question).is_err() {
            counter!(DROPPED, "pool" => pool.name.clone()).increment(1);
        }
    }
}

/// Instances lie in order of their ids.
fn place(pool: &PoolTable, instance: InstanceId) -> std::result::Result<usize, usize> {
    pool.instances.binary_search_by_key(&instance, |entry| entry.id)
}
