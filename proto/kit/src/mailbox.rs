//! Bounded channels, each with its policy.
//!
//! `wait`: the sender waits for room, until its caller's deadline. `shed`: what finds no room is dropped and counted. (`latest` is
//! `tokio::sync::watch`; `resync` is a reader that pulls the present state after a wake-up.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

/// The end that an engine reads.
#[derive(Debug)]
pub struct Mailbox<T> {
    receiver: mpsc::Receiver<T>,
}

/// An end that others write to.
#[derive(Debug)]
pub struct Address<T> {
    sender: mpsc::Sender<T>,
    shed: Arc<AtomicU64>,
}

impl<T> Clone for Address<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), shed: Arc::clone(&self.shed) }
    }
}

/// The engine has ended and takes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine has ended")]
pub struct Closed;

/// A mailbox for `depth` letters.
#[must_use]
pub fn mailbox<T>(depth: usize) -> (Address<T>, Mailbox<T>) {
    let (sender, receiver) = mpsc::channel(depth);
    (Address { sender, shed: Arc::default() }, Mailbox { receiver })
}

impl<T> Address<T> {
    /// Policy `wait`: waits for room.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn send(&self, letter: T) -> Result<(), Closed> {
        self.sender.send(letter).await.map_err(|_letter| Closed)
    }

    /// Policy `wait` for a thread outside the runtime: blocks until there is room.
    ///
    /// # Errors
    /// The engine has ended.
    pub fn send_blocking(&self, letter: T) -> Result<(), Closed> {
        self.sender.blocking_send(letter).map_err(|_letter| Closed)
    }

    /// Policy `shed`: drops and counts what finds no room; false if it was dropped.
    pub fn offer(&self, letter: T) -> bool {
        let taken = self.sender.try_send(letter).is_ok();
        if !taken {
            self.shed.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// How many letters would be taken at once.
    #[must_use]
    pub fn room(&self) -> usize {
        self.sender.capacity()
    }

    /// Waits until so many letters would be taken at once. Cancel-safe.
    ///
    /// # Errors
    /// The engine has ended, or the mailbox is smaller.
    pub async fn has_room(&self, letters: usize) -> Result<(), Closed> {
        self.sender.reserve_many(letters).await.map(drop).map_err(|_closed| Closed)
    }

    /// How many letters were dropped.
    #[must_use]
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    /// How many letters wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.sender.max_capacity().saturating_sub(self.sender.capacity())
    }
}

impl<T> Mailbox<T> {
    /// Takes what waits, at least one and at most `limit`, after waiting for the first; empty once all addresses are gone.
    /// Cancel-safe: nothing is lost if the future is dropped.
    pub async fn take(&mut self, limit: usize) -> Vec<T> {
        let mut letters = Vec::new();
        self.receiver.recv_many(&mut letters, limit).await;
        letters
    }

    /// The same for a thread outside the runtime.
    pub fn take_blocking(&mut self, limit: usize) -> Vec<T> {
        let mut letters = Vec::new();
        self.receiver.blocking_recv_many(&mut letters, limit);
        letters
    }

    /// Takes what waits, at most `limit`, without waiting.
    pub fn take_now(&mut self, limit: usize) -> Vec<T> {
        let mut letters = Vec::new();
        while letters.len() < limit
            && let Ok(letter) = self.receiver.try_recv()
        {
            letters.push(letter);
        }
        letters
    }

    /// Takes one letter without waiting.
    pub fn try_take(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }

    /// Takes no more letters; what waits can still be read.
    pub fn close(&mut self) {
        self.receiver.close();
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_mailbox_sheds_and_counts_and_a_closed_one_refuses() {
        let (address, mut mailbox) = mailbox(2);
        assert_eq!([address.offer(1), address.offer(2), address.offer(3)], [true, true, false]);
        assert_eq!((address.shed(), address.depth(), address.room()), (1, 2, 0));
        assert_eq!(mailbox.take(8).await, [1, 2]);
        assert_eq!([address.has_room(2).await, address.has_room(3).await], [Ok(()), Err(Closed)]);
        mailbox.close();
        assert_eq!(address.send(4).await, Err(Closed));
        assert_eq!(mailbox.take(8).await, Vec::<i32>::new());
    }
}
