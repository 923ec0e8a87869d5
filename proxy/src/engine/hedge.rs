//! Requests that may go to two instances: the first answer is the client's, the other is called off.
//!
//! Pingora drives one upstream per request, from the choice of a peer to the last byte. So requests that may be hedged are
//! forwarded here instead, in the phase before that, with Pingora's own client and the very hooks that the usual way calls:
//!
//! ```text
//! first ─► answers ────────────────────────────────────► hooks, client
//!   └ silent for long ─► budgets ─► second ─► who answers first ─► the other is dropped
//! fails before it answers ─► the hooks judge it ─► another try, the usual way; or an error, as usual
//! ```
//!
//! A dropped try's connection is closed: HTTP/1 knows no other way to call a request off. Whether its instance notices and
//! stops is up to it.
//!
//! Only requests that need nothing of what Pingora does besides come this way: GET or HEAD without a body, to an
//! instance that speaks HTTP/1, without `Upgrade`, `Expect`, `TE` or a `Connection` that names further headers, and with a
//! plain target and host. All others go the usual way and are not hedged.
//!
//! Known weaknesses: connections are kept apart from those of the usual way; informational answers (103) are not
//! passed on; the task of a connection that is cut off by its timer does not say of its tries how long they had run.

use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::time::Duration;

use foretide_predictor::time::Timestamp;
use foretide_routing::observe::Outcome;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::Authority;
use http::{Method, StatusCode, Version};
use pingora_core::connectors::ConnectorOptions;
use pingora_core::connectors::http::v1::Connector;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session};
use tokio::time::{Instant, sleep, timeout_at};

use crate::clock::Clock;
use crate::engine::POOLED_PER_THREAD;
use crate::engine::context::RequestContext;
use crate::engine::context::hedging::{HedgePlan, Which};
use crate::engine::hooks::{Hooks, client_gone};
use crate::engine::metrics::Hedge;
use crate::engine::outcome::judge;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Requests with one of these go the usual way.
const NOT_PLAIN: [HeaderName; 9] = [
    CONTENT_LENGTH,
    EXPECT,
    HTTP2_SETTINGS,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Connections for requests that may be hedged; made when the first of them comes.
#[derive(Default)]
pub(super) struct Racers(OnceLock<Connector>);

impl Racers {
    fn connector(&self) -> &Connector {
        self.0.get_or_init(|| Connector::new(Some(ConnectorOptions::new(POOLED_PER_THREAD))))
    }
}

/// One try on its way.
struct Runner {
    peer: Box<HttpPeer>,
    /// From the request sent to the first byte.
    patience: Duration,
    deadline: Option<Instant>,
    clock: Clock,
    /// When the instance got it.
    sent: OnceLock<Timestamp>,
}

/// The head of an answer, and where the rest comes from.
struct Answer {
    upstream: HttpSession,
    head: Box<ResponseHeader>,
    ended: bool,
}

/// A try that came to nothing.
struct Failure {
    error: Box<Error>,
    /// Whether on a kept connection; `None`: there was none.
    reused: Option<bool>,
}

/// How a race ended.
enum Finish {
    Answered(Which, Box<Answer>),
    Failed(Which, Failure),
}

type Asking<'a> = Pin<&'a mut (dyn Future<Output = Result<Answer, Failure>> + Send)>;

impl Hooks {
    /// Forwards a request that may be hedged. False: not this way, or not any more; the usual way goes on from here.
    pub(super) async fn hedge(&self, session: &mut Session, ctx: &mut Box<RequestContext>) -> Result<bool> {
        let Some(request) = plain(session)? else { return Ok(false) };
        let Some(plan) = ctx.plan_hedge() else { return Ok(false) };
        let peer = self.upstream_peer(session, ctx).await?;
        let first = self.runner(ctx, peer);
        let mut second = None;
        match self.race(session, ctx, &plan, (&first, request), &mut second).await? {
            Finish::Answered(which, answer) => {
                let runner = second.as_ref().filter(|_| which == Which::Second).unwrap_or(&first);
                self.pass_on(session, ctx, &runner.peer, *answer).await?;
                Ok(true)
            }
            Finish::Failed(which, failure) => {
                let runner = second.as_ref().filter(|_| which == Which::Second).unwrap_or(&first);
                self.judge_failure(session, ctx, &runner.peer, failure)
            }
        }
    }

    fn runner(&self, ctx: &RequestContext, peer: Box<HttpPeer>) -> Runner {
        Runner {
            peer,
            patience: ctx.upstream().map_or(Duration::ZERO, |upstream| upstream.first_byte_timeout),
            deadline: ctx.deadline,
            clock: self.shared.clock,
            sent: OnceLock::new(),
        }
    }

    /// Until one has answered, or none is left. On an error the client has gone.
    async fn race(
        &self,
        session: &mut Session,
        ctx: &mut Box<RequestContext>,
        plan: &HedgePlan,
        (first, mut request): (&Runner, Box<RequestHeader>),
        second: &mut Option<Runner>,
    ) -> Result<Finish> {
        self.upstream_request_filter(session, &mut request, ctx).await?;
        let started = Instant::now();
        let connector = self.shared.racers.connector();
        let mut asking: Asking<'_> = pin!(first.ask(connector, request));
        let early = tokio::select! {
            biased;
            done = &mut asking => Some(Ok(done)),
            gone = client_gone(session) => Some(Err(gone)),
            () = wait(plan.after) => None,
        };
        let finish = match early {
            Some(done) => done.map(|done| finish(Which::First, done)),
            None => match self.second(session, ctx, plan).await? {
                Some((runner, request)) => {
                    let runner = second.insert(runner);
                    let other: Asking<'_> = pin!(runner.ask(connector, request));
                    let finish = both(session, ctx, (asking, first), (other, runner)).await;
                    let won = matches!(finish, Ok(Finish::Answered(Which::Second, _)));
                    ctx.hedged(if won { Hedge::Won } else { Hedge::Lost });
                    finish
                }
                None => tokio::select! {
                    biased;
                    done = &mut asking => Ok(finish(Which::First, done)),
                    gone = client_gone(session) => Err(gone),
                },
            },
        };
        if second.is_none() {
            ctx.sent_at(first.sent.get(), Which::First);
        }
        if matches!(finish, Ok(Finish::Answered(..))) {
            plan.hedging.first_took(started.elapsed());
        }
        finish
    }

    /// Chooses a second instance, if it may be, and writes it a request of its own.
    async fn second(
        &self,
        session: &mut Session,
        ctx: &mut Box<RequestContext>,
        plan: &HedgePlan,
    ) -> Result<Option<(Runner, Box<RequestHeader>)>> {
        let Some(mut request) = plain(session)? else { return Ok(None) };
        let Some(chosen) = ctx.choose_hedge(plan) else { return Ok(None) };
        match self.peer(ctx, &chosen).await {
            Ok(peer) => {
                self.upstream_request_filter(session, &mut request, ctx).await?;
                Ok(Some((self.runner(ctx, peer), request)))
            }
            Err(error) => {
                ctx.keep(Which::First, judge(&error, false).outcome);
                ctx.hedged(Hedge::Denied);
                Ok(None)
            }
        }
    }

    /// Sends the client what the instance answers, as the usual way does.
    async fn pass_on(
        &self,
        session: &mut Session,
        ctx: &mut Box<RequestContext>,
        peer: &HttpPeer,
        answer: Answer,
    ) -> Result<()> {
        let Answer { mut upstream, mut head, mut ended } = answer;
        self.upstream_response_filter(session, &mut head, ctx).await?;
        frame(session, &mut head, ended)?;
        session.write_response_tasks(vec![HttpTask::Header(head, ended)]).await?;
        while !ended {
            let task = tokio::select! {
                biased;
                task = upstream.read_response_task() => task.map_err(Error::into_up)?,
                gone = client_gone(session) => return Err(gone),
            };
            let (mut body, end) = match task {
                HttpTask::Body(body, end) => (body, end),
                HttpTask::Done => (None, true),
                _ => {
                    return Error::e_explain(ErrorType::InvalidHTTPHeader, "not a body")
                        .map_err(Error::into_up);
                }
            };
            self.upstream_response_body_filter(session, &mut body, end, ctx)?;
            session.write_response_tasks(vec![HttpTask::Body(body, end)]).await?;
            ended = end;
        }
        self.shared.racers.connector().release_http_session(upstream, peer, peer.idle_timeout()).await;
        Ok(())
    }

    /// Nobody answered: what the usual way would make of it. False: it shall try again.
    fn judge_failure(
        &self,
        session: &mut Session,
        ctx: &mut Box<RequestContext>,
        peer: &HttpPeer,
        failure: Failure,
    ) -> Result<bool> {
        let error = match failure.reused {
            None => self.fail_to_connect(session, peer, ctx, failure.error),
            Some(reused) => self.error_while_proxy(peer, session, failure.error, ctx, reused),
        };
        if error.retry() { Ok(false) } else { Err(error) }
    }
}

impl Runner {
    /// Sends the request and waits for the head of the answer.
    async fn ask(&self, connector: &Connector, request: Box<RequestHeader>) -> Result<Answer, Failure> {
        let connected = connector.get_http_session(&*self.peer).await;
        let failed = |error: Box<Error>, reused| Failure { error: error.into_up(), reused };
        let (mut upstream, reused) = connected.map_err(|error| failed(error, None))?;
        let _first_time = self.sent.set(self.clock.now());
        upstream.read_timeout = self.peer.options.read_timeout;
        upstream.write_timeout = self.peer.options.write_timeout;
        let due = Instant::now() + self.patience;
        let due = self.deadline.map_or(due, |deadline| deadline.min(due));
        let head = timeout_at(due, head_of(&mut upstream, request)).await;
        let head = head.unwrap_or_else(|_| Error::e_explain(ErrorType::ReadTimedout, "no answer in time"));
        let (head, ended) = head.map_err(|error| failed(error, Some(reused)))?;
        Ok(Answer { upstream, head, ended })
    }
}

/// The final head; whether there is nothing behind it.
async fn head_of(
    upstream: &mut HttpSession,
    request: Box<RequestHeader>,
) -> Result<(Box<ResponseHeader>, bool)> {
    upstream.write_request_header(request).await?;
    loop {
        match upstream.read_response_task().await? {
            HttpTask::Header(head, _) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                return Error::e_explain(ErrorType::InvalidHTTPHeader, "switches protocols unasked");
            }
            HttpTask::Header(head, _) if head.status.is_informational() => {}
            HttpTask::Header(head, ended) => return Ok((head, ended)),
            _ => return Error::e_explain(ErrorType::InvalidHTTPHeader, "no head of an answer"),
        }
    }
}

/// Two on their way: the first answer counts; who fails is out.
async fn both(
    session: &mut Session,
    ctx: &mut Box<RequestContext>,
    (mut one, first): (Asking<'_>, &Runner),
    (mut two, second): (Asking<'_>, &Runner),
) -> Result<Finish> {
    let mut left = [true, true];
    loop {
        let (which, done) = tokio::select! {
            biased;
            done = &mut one, if left[0] => (Which::First, done),
            done = &mut two, if left[1] => (Which::Second, done),
            gone = client_gone(session) => {
                if left == [true, true] {
                    ctx.sent_at(first.sent.get(), Which::First);
                    ctx.sent_at(second.sent.get(), Which::Second);
                }
                return Err(gone);
            }
        };
        let alone = left != [true, true];
        if !alone {
            ctx.sent_at(first.sent.get(), Which::First);
            ctx.sent_at(second.sent.get(), Which::Second);
        }
        match done {
            Ok(answer) => {
                if !alone {
                    ctx.keep(which, Outcome::ClientGone);
                }
                return Ok(finish(which, Ok(answer)));
            }
            Err(failure) if alone => return Ok(finish(which, Err(failure))),
            Err(failure) => {
                let (place, other) = match which {
                    Which::First => (0, Which::Second),
                    Which::Second => (1, Which::First),
                };
                left[place] = false;
                // A kept connection that the instance had just closed is nobody's failure.
                let stale = failure.reused == Some(true)
                    && matches!(failure.error.etype(), ErrorType::ConnectionClosed);
                let outcome = if stale { Outcome::ClientGone } else { judge(&failure.error, false).outcome };
                ctx.keep(other, outcome);
            }
        }
    }
}

fn finish(which: Which, done: Result<Answer, Failure>) -> Finish {
    match done {
        Ok(answer) => Finish::Answered(which, Box::new(answer)),
        Err(failure) => Finish::Failed(which, failure),
    }
}

async fn wait(after: Option<Duration>) {
    match after {
        Some(after) => sleep(after).await,
        None => pending().await,
    }
}

/// The request for an HTTP/1 instance, if it is one that can be forwarded here.
fn plain(session: &mut Session) -> Result<Option<Box<RequestHeader>>> {
    let no_body = session.as_mut().is_body_empty();
    let head = session.req_header();
    let closes = |value: &HeaderValue| {
        value.as_bytes().eq_ignore_ascii_case(b"close")
            || value.as_bytes().eq_ignore_ascii_case(b"keep-alive")
    };
    let plain = no_body
        && head.raw_path().starts_with(b"/")
        && head.headers.get_all(CONNECTION).iter().all(closes)
        && !NOT_PLAIN.iter().any(|name| head.headers.contains_key(name));
    let Some(host) = host(head).filter(|_| plain) else { return Ok(None) };
    let mut request = Box::new(head.clone());
    request.set_version(Version::HTTP_11);
    for name in [&CONNECTION, &KEEP_ALIVE, &PROXY_CONNECTION] {
        request.remove_header(name);
    }
    if request.headers.get(HOST) != Some(&host) {
        request.insert_header(HOST, host)?;
    }
    Ok(Some(request))
}

/// What the instance is told as `Host`; `None`: nothing that everybody understands alike.
fn host(head: &RequestHeader) -> Option<HeaderValue> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (named, further) = (hosts.next(), hosts.next());
    let authority = head.uri.authority().map(Authority::as_str);
    let text = match (authority, named) {
        (Some(authority), Some(named)) if named.as_bytes() != authority.as_bytes() => return None,
        (Some(authority), _) => authority,
        (None, named) => named?.to_str().ok()?,
    };
    let fine = further.is_none() && !text.contains('@') && text.parse::<Authority>().is_ok();
    fine.then(|| HeaderValue::from_str(text).ok()).flatten()
}

/// Makes an instance's head one that an HTTP/1.1 client understands whatever the instance's version was.
fn frame(session: &Session, head: &mut ResponseHeader, ended: bool) -> Result<()> {
    let bodiless = session.req_header().method == Method::HEAD || matches!(head.status.as_u16(), 204 | 304);
    head.set_version(Version::HTTP_11);
    let framed = head.headers.contains_key(CONTENT_LENGTH) || head.headers.contains_key(TRANSFER_ENCODING);
    if bodiless || ended || framed {
        return Ok(());
    }
    head.insert_header(TRANSFER_ENCODING, "chunked")
}
