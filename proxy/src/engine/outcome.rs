//! From Pingora's errors to what the client is told, and to who is to blame.
//!
//! | what happened | status | flag |
//! |---|---|---|
//! | no route | 404 | NR |
//! | no instance | 503, `Retry-After` | UH |
//! | refused by admission, or too late while it waited | 503, `Retry-After` | OM |
//! | the pool's queue is full, or the wait in it too long; all instances have as many requests as they may | 503, `Retry-After` | UO |
//! | no connection, after retries | 502 | UF |
//! | the instance broke off before its answer | 502 | UC |
//! | connect, first byte or the whole request took too long | 504 | UT |
//! | the client sent too slowly | 408 | DC |
//! | the client went away | none (499 in logs and metrics) | DC |
//! | not HTTP as it should be | 400 | DPE |

use foretide_routing::observe::Outcome;
use pingora_core::{Error, ErrorSource, ErrorType};

use crate::engine::access_line::Flag;

/// What an error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// To be sent; 0: nobody is there to read it.
    pub(super) status: u16,
    /// For the access log.
    pub(super) flag: Flag,
    /// For the controller.
    pub(super) outcome: Outcome,
}

/// Judges an error. `expired`: the watch had cut the request's time off.
pub(super) fn judge(error: &Error, expired: bool) -> Verdict {
    use Outcome::{ClientGone, ProducerUnreachable};
    let verdict = |status, flag, outcome| Verdict { status, flag, outcome };
    if expired || is_upstream_timeout(error) {
        return verdict(504, Flag::Timeout, ProducerUnreachable);
    }
    match (error.etype(), error.esource()) {
        (ErrorType::HTTPStatus(503), _) => verdict(503, Flag::NoInstance, ClientGone),
        (ErrorType::HTTPStatus(504), _) => verdict(504, Flag::Timeout, ClientGone),
        (ErrorType::HTTPStatus(code), _) => verdict(*code, Flag::None, ClientGone),
        (etype, ErrorSource::Upstream) if is_connect_failure(etype) => {
            verdict(502, Flag::ConnectFailed, ProducerUnreachable)
        }
        (_, ErrorSource::Upstream) => verdict(502, Flag::InstanceBroke, ProducerUnreachable),
        (ErrorType::ReadTimedout, ErrorSource::Downstream) => verdict(408, Flag::ClientGone, ClientGone),
        (
            ErrorType::WriteError
            | ErrorType::WriteTimedout
            | ErrorType::ReadError
            | ErrorType::ConnectionClosed
            | ErrorType::H2Error,
            ErrorSource::Downstream,
        ) => verdict(0, Flag::ClientGone, ClientGone),
        (_, ErrorSource::Downstream) => verdict(400, Flag::BadRequest, ClientGone),
        (_, ErrorSource::Internal | ErrorSource::Unset) => verdict(500, Flag::None, ClientGone),
    }
}

/// Whether an instance took too long: not worth another try, which would only double the load on a slow pool.
pub(super) fn is_upstream_timeout(error: &Error) -> bool {
    let slow = matches!(
        error.etype(),
        ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
    );
    slow && *error.esource() == ErrorSource::Upstream
}

fn is_connect_failure(etype: &ErrorType) -> bool {
    matches!(
        etype,
        ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::TLSHandshakeFailure
            | ErrorType::InvalidCert
            | ErrorType::HandshakeError
            | ErrorType::BindError
            | ErrorType::SocketError
    )
}

/// A few words for the body of an answer of our own.
pub(super) fn words(status: u16) -> &'static str {
    match status {
        400 => "bad request\n",
        404 => "no route takes this request\n",
        408 => "the request took too long to arrive\n",
        502 => "the instance could not be reached or broke off\n",
        503 => "no instance is ready or free\n",
        504 => "no answer in time\n",
        _ => "the request could not be served\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_who_failed() {
        let status = |error: &Error| judge(error, false).status;
        assert_eq!(status(&Error::new_up(ErrorType::ConnectRefused)), 502);
        assert_eq!(status(&Error::new_up(ErrorType::ConnectTimedout)), 504);
        assert_eq!(status(&Error::new_up(ErrorType::ReadTimedout)), 504);
        assert_eq!(status(&Error::new_up(ErrorType::ConnectionClosed)), 502);
        assert_eq!(status(&Error::new_down(ErrorType::ReadTimedout)), 408);
        assert_eq!(status(&Error::new_down(ErrorType::ConnectionClosed)), 0);
        assert_eq!(status(&Error::new_down(ErrorType::InvalidHTTPHeader)), 400);
        assert_eq!(status(&Error::new_in(ErrorType::InternalError)), 500);
        assert_eq!(judge(&Error::new_up(ErrorType::ConnectionClosed), true).status, 504);
        assert_eq!(judge(&Error::new_down(ErrorType::WriteError), false).outcome, Outcome::ClientGone);
    }
}
