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
//! [`foretide_racer`] says which requests can be forwarded here; all others go the usual way and are not hedged. A dropped
//! try's connection is closed. Whether its instance notices and stops is up to it.
//!
//! Known weaknesses: those of [`foretide_racer`]; the task of a connection that is cut off by its timer does not say of its
//! tries how long they had run.

use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::time::Duration;

use foretide_racer::{Answer, Failure, Runner, frame, plain};
use foretide_routing::observe::Outcome;
use pingora_core::protocols::http::HttpTask;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::{ProxyHttp, Session};
use tokio::time::{Instant, sleep};

use crate::engine::context::RequestContext;
use crate::engine::context::hedging::{HedgePlan, Which};
use crate::engine::hooks::{Hooks, client_gone};
use crate::engine::metrics::Hedge;
use crate::engine::outcome::judge;

/// How a race ended.
enum Finish {
    Answered(Which, Box<Answer>),
    Failed(Which, Failure),
}

type Asking<'a> = Pin<&'a mut (dyn Future<Output = Result<Answer, Failure>> + Send)>;

impl Hooks {
    /// Forwards a request that may be hedged. False: not this way, or not any more; the usual way goes on from here.
    pub(super) async fn hedge(&self, session: &mut Session, ctx: &mut Box<RequestContext>) -> Result<bool> {
        let Some(request) = plain_request(session)? else { return Ok(false) };
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
        let (racers, clock) = (&self.shared.racers, self.shared.clock);
        let mut asking: Asking<'_> = pin!(first.ask(racers, request, || clock.now()));
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
                    let other: Asking<'_> = pin!(runner.ask(racers, request, || clock.now()));
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
        let Some(mut request) = plain_request(session)? else { return Ok(None) };
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
        let Answer { mut head, mut ended, mut rest } = answer;
        self.upstream_response_filter(session, &mut head, ctx).await?;
        frame(&session.req_header().method, &mut head, ended)?;
        session.write_response_tasks(vec![HttpTask::Header(head, ended)]).await?;
        while !ended {
            let (mut body, end) = tokio::select! {
                biased;
                piece = rest.next() => piece?,
                gone = client_gone(session) => return Err(gone),
            };
            self.upstream_response_body_filter(session, &mut body, end, ctx)?;
            session.write_response_tasks(vec![HttpTask::Body(body, end)]).await?;
            ended = end;
        }
        self.shared.racers.release(rest, peer).await;
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
fn plain_request(session: &mut Session) -> Result<Option<Box<RequestHeader>>> {
    if session.as_mut().is_body_empty() { plain(session.req_header()) } else { Ok(None) }
}
