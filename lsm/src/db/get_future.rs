//! The future of an asynchronous get, and the promise that the reactor keeps to it.

use crate::base::error::{Error, Result};
use crate::base::slice::PinnedSlice;
use crate::base::sync::Mutex;
use crate::db::snapshot::Snapshot;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// What a get gives.
pub(crate) type Found = Result<Option<PinnedSlice>>;

/// The place where promise and future meet.
#[derive(Default)]
struct Meeting {
    answer: Option<Found>,
    waker: Option<Waker>,
}

/// The duty to answer. One that is dropped without an answer says that the database is closed, so nobody waits for ever.
pub(crate) struct Promise {
    meeting: Arc<Mutex<Meeting>>,
    kept: bool,
}

impl Promise {
    /// Answers, and wakes whoever waits.
    pub(crate) fn keep(mut self, found: Found) {
        self.answer(found);
    }

    fn answer(&mut self, found: Found) {
        self.kept = true;
        let waker = {
            let mut meeting = self.meeting.lock();
            meeting.answer = Some(found);
            meeting.waker.take()
        };
        // Outside the lock: a waker may do anything.
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.kept {
            self.answer(Err(Error::Closed));
        }
    }
}

/// The value of a key, now or once its block has been read. Made by [`Keyspace::get_async`](crate::Keyspace::get_async).
///
/// Works with any executor and may move between threads. Dropping it is fine at any time: a read that is under way ends
/// by itself, and its block is in the cache then.
#[must_use = "a future does nothing visible until it is awaited"]
pub struct GetFuture {
    state: State,
}

enum State {
    Known(Found),
    Promised(Arc<Mutex<Meeting>>),
    Taken,
}

impl GetFuture {
    /// A future whose answer is known.
    pub(crate) fn known(found: Found) -> GetFuture {
        GetFuture { state: State::Known(found) }
    }

    /// A future that waits for the promise.
    pub(crate) fn promised() -> (GetFuture, Promise) {
        let meeting: Arc<Mutex<Meeting>> = Arc::default();
        let promise = Promise { meeting: Arc::clone(&meeting), kept: false };
        (GetFuture { state: State::Promised(meeting) }, promise)
    }
}

impl Future for GetFuture {
    type Output = Result<Option<PinnedSlice>>;

    /// # Panics
    /// If it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Known(found) => Poll::Ready(found),
            State::Promised(meeting) => {
                let answer = {
                    let mut meeting = meeting.lock();
                    let answer = meeting.answer.take();
                    if answer.is_none() {
                        match &mut meeting.waker {
                            Some(waker) => waker.clone_from(context.waker()),
                            none => *none = Some(context.waker().clone()),
                        }
                    }
                    answer
                };
                match answer {
                    Some(found) => Poll::Ready(found),
                    None => {
                        self.state = State::Promised(meeting);
                        Poll::Pending
                    }
                }
            }
            State::Taken => panic!("a future is not polled after it was ready"),
        }
    }
}

impl fmt::Debug for GetFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Known(_) => "GetFuture(known)",
            State::Promised(_) => "GetFuture(promised)",
            State::Taken => "GetFuture(taken)",
        })
    }
}

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Promise(kept: {})", self.kept)
    }
}

/// The values of several keys as of one moment. Made by [`Keyspace::multi_get_async`](crate::Keyspace::multi_get_async).
///
/// Like [`GetFuture`]: any executor, `Send`, may be dropped at any time.
#[must_use = "a future does nothing visible until it is awaited"]
pub struct MultiGetFuture {
    parts: Vec<GetFuture>,
    answers: Vec<Found>,
    /// Keeps what the reads see from being compacted away before the last of them has begun to look.
    snapshot: Option<Snapshot>,
}

impl MultiGetFuture {
    pub(crate) fn new(parts: Vec<GetFuture>, snapshot: Option<Snapshot>) -> MultiGetFuture {
        let answers = Vec::with_capacity(parts.len());
        MultiGetFuture { parts, answers, snapshot }
    }
}

impl Future for MultiGetFuture {
    type Output = Vec<Result<Option<PinnedSlice>>>;

    /// # Panics
    /// If it is polled again after it was ready, unless it was for no keys.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        // All reads are under way since the call. Waiting for one after the other takes one waker at a time.
        while let Some(part) = this.parts.get_mut(this.answers.len()) {
            match Pin::new(part).poll(context) {
                Poll::Ready(found) => this.answers.push(found),
                Poll::Pending => return Poll::Pending,
            }
        }
        this.snapshot = None;
        Poll::Ready(std::mem::take(&mut this.answers))
    }
}

impl fmt::Debug for MultiGetFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MultiGetFuture({} of {} keys)", self.answers.len(), self.parts.len())
    }
}
