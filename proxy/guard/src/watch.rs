//! One timer for everything about a connection that must not last for ever.
//!
//! Pingora's timeouts are each for a single read or write: a client that sends a byte a minute lives for ever, and
//! there is no limit for a whole request. So the task of a connection (HTTP/1) or of a stream (HTTP/2) runs under a
//! guard whose moment the hooks move. When it comes:
//!
//! - while an HTTP/1 upstream owes us its response's head, its socket is shut down: Pingora sees an upstream error, and
//!   we can still answer 504;
//! - otherwise the task is dropped and with it the connection or stream. Nothing better can be said in the middle of a
//!   response, nor to a client that never finishes its request.
//!
//! The timer is only touched when the moment moves forward in time past what is armed, when it fires, or when another
//! task polls us than the one it would wake: a busy connection does not touch it at all.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::os::fd::{OwnedFd, RawFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use rustix::net::sockopt::set_tcp_cork;
use tokio::time::{Instant, Sleep, sleep_until};

tokio::task_local! {
    static WATCH: Watch;
}

/// After the upstream's socket was shut down: time for Pingora to notice and for us to answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

struct Watch {
    at: Cell<Option<Instant>>,
    upstream: Cell<Option<RawFd>>,
    expired: Cell<bool>,
    /// Whom the armed timer wakes; `None`: it is not armed.
    wakes: RefCell<Option<Waker>>,
    held: RefCell<Option<Held>>,
}

/// A socket whose last bytes stay here for a while.
struct Held {
    socket: OwnedFd,
    /// Turns of the task until they may go; `None`: not known yet.
    turns_left: Option<u8>,
}

/// The turn that ends the body, and one more: in the first, the task may have used up its share of work before it came to
/// what follows.
const TURNS_AFTER_END: u8 = 2;

/// Runs `work` until it ends or its moment comes; `None`: cut off.
pub async fn guard<T>(at: Instant, work: impl Future<Output = T>) -> Option<T> {
    let watch = Watch {
        at: Cell::new(Some(at)),
        upstream: Cell::new(None),
        expired: Cell::new(false),
        wakes: RefCell::new(None),
        held: RefCell::new(None),
    };
    WATCH
        .scope(watch, async {
            let mut work = pin!(work);
            let mut timer = pin!(sleep_until(at));
            poll_fn(|cx| match work.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending => WATCH.with(|watch| {
                    watch.end_turn(cx);
                    watch.poll(timer.as_mut(), cx).map(|()| None)
                }),
            })
            .await
        })
        .await
}

/// A new request begins.
pub fn begin() {
    let _ = WATCH.try_with(|watch| {
        watch.upstream.set(None);
        watch.expired.set(false);
        watch.held.take();
    });
}

/// Cuts the task off at `at`; `None`: never.
pub fn cut_at(at: Option<Instant>) {
    let _ = WATCH.try_with(|watch| {
        watch.upstream.set(None);
        watch.at.set(at);
    });
}

/// Shuts the socket of an HTTP/1 upstream down at `at`. The caller takes it back with [`cut_at`] before the connection
/// can leave this task.
pub fn shut_down_at(at: Instant, upstream: RawFd) {
    let _ = WATCH.try_with(|watch| {
        watch.upstream.set(Some(upstream));
        watch.at.set(Some(at));
    });
}

/// Moves the moment of [`shut_down_at`], if that is what is pending.
pub fn postpone_shut_down(at: Instant) {
    let _ = WATCH.try_with(|watch| {
        if watch.upstream.get().is_some() {
            watch.at.set(Some(at));
        }
    });
}

/// What is written to this socket from now on stays here until [`end_of_body`] and the end of the turns after it. (The
/// kernel sends full segments at once, and all of it after 200 ms.)
pub fn hold_back(socket: OwnedFd) {
    // On an error nothing is held back, as if this had not been called.
    let _ = WATCH.try_with(|watch| {
        if set_tcp_cork(&socket, true).is_ok() {
            watch.held.replace(Some(Held { socket, turns_left: None }));
        }
    });
}

/// The body of the request was read to its end.
pub fn end_of_body() {
    let _ = WATCH.try_with(|watch| {
        if let Some(held) = watch.held.borrow_mut().as_mut() {
            held.turns_left = Some(TURNS_AFTER_END);
        }
    });
}

/// Whether the moment of this request has come.
pub fn expired() -> bool {
    WATCH.try_with(|watch| watch.expired.get()).unwrap_or(false)
}

impl Watch {
    fn end_turn(&self, cx: &Context<'_>) {
        let mut held = self.held.borrow_mut();
        let Some(Held { socket, turns_left: Some(left) }) = held.as_mut() else { return };
        *left -= 1;
        if *left > 0 {
            cx.waker().wake_by_ref();
            return;
        }
        // An error means that it is closed already.
        let _ = set_tcp_cork(socket, false);
        held.take();
    }

    fn poll(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(at) = self.at.get() {
            if at < timer.deadline() {
                timer.as_mut().reset(at);
                self.wakes.take();
            }
            let armed = self.wakes.borrow().as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            if armed && !timer.is_elapsed() {
                return Poll::Pending;
            }
            if timer.as_mut().poll(cx).is_pending() {
                self.wakes.replace(Some(cx.waker().clone()));
                return Poll::Pending;
            }
            self.wakes.take();
            let now = Instant::now();
            if now < at {
                timer.as_mut().reset(at);
                continue;
            }
            self.expired.set(true);
            let Some(socket) = self.upstream.take() else {
                return Poll::Ready(());
            };
            // An error means that it is closed already, which is what we want.
            let _ = shutdown(socket, Shutdown::Both);
            self.at.set(Some(now + ANSWER_TIME));
            timer.as_mut().reset(now + ANSWER_TIME);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::mem;
    use std::os::fd::AsFd;

    use rustix::net::sockopt::tcp_cork;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn work_that_ends_in_time_is_not_cut() {
        let far = Instant::now() + Duration::from_secs(3600);
        assert_eq!(guard(far, async { 7 }).await, Some(7));
    }

    #[tokio::test]
    async fn the_moment_can_move_closer_and_away() {
        let far = Instant::now() + Duration::from_secs(3600);
        let cut = guard(far, async {
            cut_at(Some(Instant::now() + Duration::from_millis(5)));
            std::future::pending::<()>().await;
        });
        assert_eq!(cut.await, None);
        let soon = Instant::now() + Duration::from_millis(5);
        let kept = guard(soon, async {
            cut_at(None);
            tokio::time::sleep(Duration::from_millis(20)).await;
            expired()
        });
        assert_eq!(kept.await, Some(false));
    }

    #[tokio::test]
    async fn a_socket_is_held_back_until_the_turn_after_the_end_of_the_body() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let far = Instant::now() + Duration::from_secs(3600);
        let held = guard(far, async {
            hold_back(stream.as_fd().try_clone_to_owned().unwrap());
            yield_now().await;
            assert!(tcp_cork(&stream).unwrap(), "for as long as the body has not ended");
            end_of_body();
            // Nobody but the guard itself wakes this task.
            let mut first = true;
            poll_fn(|_| if mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }).await;
            assert!(tcp_cork(&stream).unwrap(), "that was the turn in which it ended");
            yield_now().await;
            tcp_cork(&stream).unwrap()
        });
        assert_eq!(timeout(Duration::from_secs(60), held).await, Ok(Some(false)));
    }
}
