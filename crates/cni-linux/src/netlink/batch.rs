//! Transactions: several changes in one datagram, of which all are made or none.
//!
//! Only nfnetlink has them (`nfnetlink_rcv_batch` in `net/netfilter/nfnetlink.c`).

use std::fmt;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use rustix::net::RecvFlags;

use super::encode::Body;
use super::{Socket, wire};
use crate::error::{Errno, Error, Result};

/// `include/uapi/linux/netfilter/nfnetlink.h`
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;

/// How often a transaction is sent again that the kernel could not make for a passing reason.
const ATTEMPTS: usize = 10;

/// One change of a transaction, and the words for it should it fail.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) kind: u16,
    /// `NLM_F_CREATE` and the like.
    pub(crate) flags: u16,
    pub(crate) body: Body,
    /// `add element`
    pub(crate) doing: &'static str,
    /// `10.1.2.3 to …`
    pub(crate) what: String,
}

/// A change that was refused, by its place in the transaction.
pub(crate) struct Refused {
    pub(crate) nth: usize,
    pub(crate) error: Error,
}

impl Socket {
    /// Makes all of the changes, or none: then it says which were refused, in their order.
    ///
    /// Every change of netfilter passes here; this is the fault point of the tests.
    ///
    /// # Errors
    ///
    /// If the transaction as a whole failed, or whether it did is not known.
    pub(crate) fn transact(&mut self, messages: &[Message]) -> Result<std::result::Result<(), Vec<Refused>>> {
        if messages.is_empty() {
            return Ok(Ok(()));
        }
        #[cfg(feature = "testing")]
        crate::testing::fault::change("NFNL_MSG_BATCH", "commit", &All(messages))?;
        let mut attempts = 0..ATTEMPTS;
        loop {
            let last = attempts.next().is_none();
            match self.attempt(messages) {
                Err(error) if error.errno().is_some_and(passes) && !last => {}
                Ok(refused) if refused.iter().any(|refused| is_hash_busy(messages, refused)) && !last => {
                    // Whoever grows the table needs a processor for it.
                    std::thread::yield_now();
                }
                Ok(refused) if refused.is_empty() => return Ok(Ok(())),
                Ok(refused) => return Ok(Err(refused)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the transaction, and reads what became of it.
    fn attempt(&mut self, messages: &[Message]) -> Result<Vec<Refused>> {
        let failed = |errno| Error::os("commit", All(messages).to_string(), errno);
        let begin = self.encode_batch(messages);
        self.send().map_err(failed)?;
        let mut refused = Vec::new();
        loop {
            let length = self.receive(RecvFlags::empty()).map_err(failed)?;
            if length > self.incoming.len() {
                self.drain();
                return Err(failed(Errno::MSGSIZE));
            }
            let answers: Vec<_> = wire::acknowledgements(&self.incoming).collect();
            for (sequence, answer) in answers {
                // The beginning is counted, too.
                let nth = usize::try_from(sequence.wrapping_sub(begin)).unwrap_or(usize::MAX);
                let message = nth.checked_sub(1).and_then(|nth| messages.get(nth));
                match (message, answer) {
                    // The kernel answers to the beginning when it did not come to the changes, or could not make them.
                    (None, Some(refusal)) if nth == 0 => {
                        self.drain();
                        return Err(failed(refusal.errno).with_said(refusal.said, None));
                    }
                    (Some(message), answer) => {
                        refused.extend(answer.map(|no| Refused { nth: nth - 1, error: message.error(no) }));
                        if nth == messages.len() {
                            return Ok(refused);
                        }
                    }
                    // A left-over of an earlier request.
                    _ => {}
                }
            }
        }
    }

    /// Writes the datagram, and returns the sequence number that it begins with.
    ///
    /// The last change alone asks for an acknowledgement: answers come in the order of the changes, so whatever precedes
    /// it is a refusal.
    fn encode_batch(&mut self, messages: &[Message]) -> u32 {
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        // Numbers are not to go round inside of a transaction.
        if self.sequence.checked_add(count.saturating_add(2)).is_none() {
            self.sequence = 0;
        }
        let begin = self.sequence + 1;
        let mut subsystem = [0; 4];
        subsystem[2..].copy_from_slice(&NFNL_SUBSYS_NFTABLES.to_be_bytes());
        self.outgoing.clear();
        self.append(NFNL_MSG_BATCH_BEGIN, 0, &subsystem);
        for (nth, message) in messages.iter().enumerate() {
            let ack = if nth + 1 == messages.len() { NLM_F_ACK } else { 0 };
            self.append(message.kind, message.flags | ack, message.body.as_bytes());
        }
        self.append(NFNL_MSG_BATCH_END, 0, &subsystem);
        begin
    }

    fn append(&mut self, kind: u16, flags: u16, body: &[u8]) {
        self.sequence += 1;
        let (start, length) = (self.outgoing.len(), wire::HEADER + body.len());
        self.outgoing.resize(start + wire::HEADER, 0);
        let flags = flags | NLM_F_REQUEST;
        wire::Header { length, kind, flags, sequence: self.sequence }.write(&mut self.outgoing[start..]);
        self.outgoing.extend_from_slice(body);
        self.outgoing.resize(self.outgoing.len().next_multiple_of(4), 0);
    }
}

impl Message {
    fn error(&self, refusal: wire::Refusal) -> Error {
        let attribute = refusal.offset.and_then(|offset| offset.checked_sub(wire::HEADER));
        let attribute = attribute.and_then(|offset| wire::attribute_at(self.body.as_bytes(), offset));
        Error::os(self.doing, &self.what, refusal.errno).with_said(refusal.said, attribute)
    }
}

/// A signal came, memory was short for a moment, or somebody else was faster (`ERESTART`, which is no error number of
/// user space).
fn passes(errno: Errno) -> bool {
    const ERESTART: i32 = 85;
    matches!(errno, Errno::INTR | Errno::AGAIN) || errno.raw_os_error() == ERESTART
}

/// A set's hash table takes no new element while it is being enlarged (`rhashtable_insert_rehash`).
fn is_hash_busy(messages: &[Message], refused: &Refused) -> bool {
    refused.error.errno() == Some(Errno::BUSY) && messages[refused.nth].kind == super::nft::NEWSETELEM
}

/// The words for all the changes of a transaction.
struct All<'a>(&'a [Message]);

impl fmt::Display for All<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, Message { doing, what, .. }) in self.0.iter().enumerate() {
            let separator = if nth == 0 { "" } else { ", " };
            write!(f, "{separator}{doing} {what}")?;
        }
        Ok(())
    }
}
