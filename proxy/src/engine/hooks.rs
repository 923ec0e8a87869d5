//! Pingora's phases, in the order they come: what this proxy does in each.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use foretide_guard::upgrade::Upgrade;
use foretide_guard::watch;
use foretide_routing::claim::Claim;
use foretide_routing::extract::RequestFacts;
use foretide_routing::observe::{Outcome, RefusalReason};
use foretide_routing::retry;
use foretide_routing::table::RoutingTable;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use tokio::time::{Instant, timeout, timeout_at};

use crate::engine::access_line::Flag;
use crate::engine::context::entering::WaitEnd;
use crate::engine::context::{CLIENT_GONE, Chosen, End, RequestContext};
use crate::engine::head::Head;
use crate::engine::outcome::{is_upstream_timeout, judge};
use crate::engine::respond::{respond, respond_later};
use crate::engine::shared::Shared;
use crate::engine::waiting::Entered;
use crate::engine::{connect, headers, report, sight, wish};

/// What Pingora can hold back of a body and send again.
const REPLAYABLE: usize = 64 * 1024;
/// How long a route that reads bodies waits for one before it decides without.
const BODY_WAIT: Duration = Duration::from_secs(1);
/// A request whose time is over while nothing can be answered any more is cut off so much later.
const BACKSTOP: Duration = Duration::from_secs(2);

/// This proxy, as Pingora sees it.
pub(super) struct Hooks {
    pub(super) shared: Arc<Shared>,
}

impl Hooks {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Limits of this connection that Pingora leaves open or resets with every request.
    /// True: others may see what is in flight here.
    fn limit(&self, session: &mut Session) -> bool {
        let settings = self.shared.settings.load();
        let idle = settings.server.client_idle_timeout;
        session.set_read_timeout(Some(idle));
        session.set_write_timeout(Some(idle));
        session.set_total_drain_timeout(Some(idle));
        if self.shared.draining.load(Ordering::Acquire) {
            session.set_keepalive(None);
        } else if session.get_keepalive().is_some() {
            // Pingora counts in seconds, and takes 0 for ever.
            session.set_keepalive(Some(idle.as_secs().max(1)));
        }
        settings.server.share_sight
    }

    /// How to reach the chosen one.
    pub(super) async fn peer(&self, ctx: &RequestContext, chosen: &Chosen) -> Result<Box<HttpPeer>> {
        let address = self.shared.resolver.resolve(&chosen.address).await.map_err(Error::into_up)?;
        let Some(upstream) = ctx.upstream() else {
            return Error::e_explain(ErrorType::InternalError, "a choice without a pool");
        };
        let authorities = upstream.tls_ca.as_deref().map(|path| self.shared.authorities.of(path)).transpose();
        let authorities = authorities.map_err(|why| Error::explain(ErrorType::InvalidCert, why).into_up())?;
        Ok(connect::peer(address, upstream, authorities, chosen.left))
    }
}

#[async_trait]
impl ProxyHttp for Hooks {
    /// Boxed: Pingora moves it several times a request, and it holds features and candidates.
    type CTX = Box<RequestContext>;

    fn new_ctx(&self) -> Box<RequestContext> {
        Box::new(RequestContext::new(self.shared.clone()))
    }

    /// None: the default one would compress nothing, at a price.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<RequestContext>) -> Result<bool> {
        watch::begin();
        watch::cut_at(None);
        let shared_sight = self.limit(session);
        if shared_sight && sight::is_asked(session) {
            ctx.set_aside();
            sight::answer(session, &self.shared.shown).await?;
            return Ok(true);
        }
        ctx.begin(session);
        let table = self.shared.table.load_full();
        let Some(mut facts) = table.routes.extract(&Head(session)) else {
            ctx.flag = Flag::NoRoute;
            respond(session, 404, &ctx.request_id).await?;
            return Ok(true);
        };
        if let Some(limit) = table.routes.route(facts.route).request_timeout {
            watch::cut_at(Some(ctx.limit_to(limit) + BACKSTOP));
        }
        if read_body(session, &table, &mut facts).await? {
            ctx.read_clock();
        }
        let pool = table.pools.get(facts.pool.index());
        let refusal = wish::refusal(pool);
        let wish = pool.map(|pool| wish::of(&session.req_header().headers, &pool.settings.choice));
        let route = table.routes.route(facts.route);
        let claim = pool.map(|pool| Claim::of(route, &pool.settings, &Head(session)));
        ctx.route(table, facts, claim.unwrap_or_default());
        ctx.wants(wish.unwrap_or_default());
        if let Some(flag) = refusal {
            // Said here and not after the choice: here the client's connection can stay open.
            match flag {
                Flag::Overflow => ctx.overflow(RefusalReason::InstancesFull),
                other => ctx.flag = other,
            }
            respond(session, 503, &ctx.request_id).await?;
            return Ok(true);
        }
        if let Some(turned_away) = ctx.apply() {
            respond_later(session, 503, &ctx.request_id, turned_away.retry_after).await?;
            return Ok(true);
        }
        if shared_sight {
            ctx.show(session);
        }
        if let Some(status) = wait_for_slot(session, ctx).await? {
            respond(session, status, &ctx.request_id).await?;
            return Ok(true);
        }
        if ctx.may_hedge(session.req_header().method.as_str()) {
            // Boxed: the few that may be hedged shall not make the task of every connection larger.
            return Box::pin(self.hedge(session, ctx)).await;
        }
        Ok(false)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Box<RequestContext>,
    ) -> Result<Box<HttpPeer>> {
        if ctx.time_left().is_some_and(|left| left.is_zero()) {
            return Error::e_explain(ErrorType::HTTPStatus(504), "no time left for a try");
        }
        let Some(chosen) = ctx.choose() else {
            ctx.flag = wish::refusal(ctx.pool()).unwrap_or(Flag::NoInstance);
            return Error::e_explain(ErrorType::HTTPStatus(503), "no instance");
        };
        let mut peer = self.peer(ctx, &chosen).await?;
        ctx.upgrade = Upgrade::asked(session, &mut peer);
        Ok(peer)
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        peer: &HttpPeer,
        socket: RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        ctx.sent(reused);
        if let Some(upgrade) = ctx.upgrade.take() {
            upgrade.connected();
        }
        if peer.options.alpn.get_max_http_version() == 1
            && let Some(due) = ctx.first_byte_due()
        {
            watch::shut_down_at(due, socket);
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        headers::forward(session, request, &ctx.request_id)?;
        ctx.tell(request)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        if end_of_stream {
            watch::end_of_body();
        }
        // The first byte is due so long after the request was sent, and it is still being sent.
        if body.is_some() {
            ctx.read_clock();
            if let Some(due) = ctx.first_byte_due() {
                watch::postpone_shut_down(due);
            }
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        let status = response.status.as_u16();
        let upgraded = status == 101;
        if response.status.is_informational() && !upgraded {
            return Ok(());
        }
        ctx.answered(status);
        ctx.hear(&response.headers);
        if ctx.read_report(&response.headers) {
            report::NAMES.iter().for_each(|name| drop(response.remove_header(name)));
        }
        watch::cut_at(if upgraded { None } else { ctx.deadline });
        if self.shared.draining.load(Ordering::Acquire) {
            session.set_keepalive(None);
        }
        wish::remember(session, response, ctx)?;
        ctx.say(response)?;
        headers::answer(response, &ctx.request_id)
    }

    /// gRPC's load reports come behind the body.
    fn upstream_response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut HeaderMap,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        if ctx.read_report(trailers) {
            report::NAMES.iter().for_each(|name| drop(trailers.remove(name)));
        }
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Box<RequestContext>,
    ) -> Result<Option<Duration>> {
        ctx.received(body.as_ref().map_or(0, Bytes::len));
        if end_of_stream {
            ctx.upstream_done();
        }
        Ok(None)
    }

    /// Nothing was sent: any method may be tried elsewhere, a connect timeout included.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Box<RequestContext>,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let again = ctx.may_retry();
        ctx.conclude(Outcome::ProducerUnreachable, again);
        error.set_retry(again);
        error
    }

    /// Something was sent: only what is safe to repeat and can be repeated in full, and not after a timeout.
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Box<RequestContext>,
        client_reused: bool,
    ) -> Box<Error> {
        let now = Instant::from_std(ctx.read_clock().instant);
        watch::cut_at(ctx.deadline.map(|deadline| deadline.max(now) + BACKSTOP));
        let by_upstream = *error.esource() == ErrorSource::Upstream;
        let repeatable = by_upstream
            && !watch::expired()
            && !is_upstream_timeout(&error)
            && !answered(session)
            && !session.as_ref().retry_buffer_truncated()
            && retry::is_safe(session.req_header().method.as_str(), false);
        let stale = repeatable && client_reused && matches!(error.etype(), ErrorType::ConnectionClosed);
        let again = (stale && ctx.forget_stale_reuse()) || {
            let again = repeatable && ctx.may_retry();
            let verdict = judge(&error, watch::expired());
            ctx.conclude(verdict.outcome, again);
            again
        };
        error.set_retry(again);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Box<RequestContext>,
    ) -> FailToProxy {
        let verdict = judge(error, watch::expired());
        // Why nobody could be chosen was known when it was tried.
        ctx.flag = if ctx.flag == Flag::Overflow { ctx.flag } else { verdict.flag };
        if verdict.status != 0 && !answered(session) {
            // Pingora closes the client's connection after an error, so say so.
            session.set_keepalive(None);
            if let Err(error) = respond(session, verdict.status, &ctx.request_id).await {
                tracing::debug!(%error, "the client did not take our answer");
            }
        }
        FailToProxy { error_code: verdict.status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Box<RequestContext>) {
        let outcome = match error {
            None => ctx.outcome_by_status(),
            Some(error) => judge(error, watch::expired()).outcome,
        };
        let now = ctx.read_clock();
        ctx.conclude(outcome, false);
        let answered = session.response_written().map_or(CLIENT_GONE, |head| head.status.as_u16());
        ctx.finish(&End {
            status: answered,
            bytes_received: session.body_bytes_read() as u64,
            bytes_sent: session.body_bytes_sent() as u64,
        });
        watch::cut_at(Some(self.shared.idle_until(now)));
    }

    /// The access log has it, once.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Box<RequestContext>, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Box<RequestContext>,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// In gateway mode: waits until the pool has a free slot. The status to refuse with if there is none in time.
///
/// # Errors
/// The client has gone away meanwhile.
async fn wait_for_slot(session: &mut Session, ctx: &mut RequestContext) -> Result<Option<u16>> {
    let Some((entered, patience)) = ctx.enter() else { return Ok(None) };
    let mut wait = match entered {
        Entered::Admitted(pass) => {
            ctx.admit(pass);
            return Ok(None);
        }
        Entered::Full => {
            ctx.overflow(RefusalReason::QueueFull);
            return Ok(Some(503));
        }
        Entered::Waits(wait) => wait,
    };
    // Only after its last byte is what a client sends no body, and its silence a sign of life.
    let all_here = session.as_mut().is_body_done();
    let waited = timeout_at(patience.until, async {
        tokio::select! {
            pass = wait.pass() => Ok(pass.ok_or(WaitEnd::Deadline)),
            gone = client_gone(session), if all_here => Err(gone),
        }
    });
    match waited.await.unwrap_or(Ok(Err(patience.end)))? {
        Ok(pass) => {
            ctx.admit(pass);
            Ok(None)
        }
        Err(end) => Ok(Some(ctx.let_go(&wait, end))),
    }
}

/// Waits until the client goes away, once all of its request is here.
pub(super) async fn client_gone(session: &mut Session) -> Box<Error> {
    match session.as_mut().read_body_or_idle(true).await {
        Ok(_) => {
            Error::explain(ErrorType::ConnectionClosed, "the client went away while it waited").into_down()
        }
        Err(error) => error.into_down(),
    }
}

/// Whether the client has the head of a final response, after which there is no other.
fn answered(session: &Session) -> bool {
    session.response_written().is_some_and(|head| !head.status.is_informational() || head.status == 101)
}

/// Reads the body for the fields that the route wants from it, if it says that it is small enough to be sent again.
/// True: it took its time.
async fn read_body(session: &mut Session, table: &RoutingTable, facts: &mut RequestFacts) -> Result<bool> {
    let limit = table.routes.body_limit(facts.route).min(REPLAYABLE);
    if limit == 0 {
        return Ok(false);
    }
    let head = session.req_header();
    let announced = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    // A client that waits for `100 Continue` gets it from the instance, so its body cannot come before the choice.
    if !announced.is_some_and(|length: usize| (1..=limit).contains(&length))
        || head.headers.contains_key(EXPECT)
    {
        return Ok(false);
    }
    session.as_mut().enable_retry_buffering();
    let whole = timeout(BODY_WAIT, async {
        while session.as_mut().read_request_body().await?.is_some() {}
        Ok::<(), Box<Error>>(())
    });
    match whole.await {
        Ok(read) => read.map_err(Error::into_down)?,
        // What has come is kept and will be sent; the rest follows it.
        Err(_too_slow) => return Ok(true),
    }
    if let Some(body) = session.as_ref().get_retry_buffer() {
        table.routes.read_body(facts, &body);
    }
    Ok(true)
}
