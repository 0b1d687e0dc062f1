//! Items of a stream: which may come next, and which were taken.

use super::ProtocolError;

/// How far the items of a stream are, on either side of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Items {
    window: u64,
    /// The sequence number of the item that comes next.
    next: u64,
    /// The first that was not taken.
    taken: u64,
}

impl Items {
    pub(super) fn new(from: u64, window: u32) -> Items {
        Items {
            window: window.into(),
            next: from,
            taken: from,
        }
    }

    /// Whether another may be sent before more are taken.
    pub(super) fn may_send(&self) -> bool {
        self.next - self.taken < self.window
    }

    /// Records that an item is announced.
    pub(super) fn announce(&mut self, sequence: u64) -> Result<(), ProtocolError> {
        if sequence != self.next {
            return Err(ProtocolError::ItemOutOfSequence {
                expected: self.next,
                found: sequence,
            });
        }
        if !self.may_send() {
            return Err(ProtocolError::ItemsAhead {
                window: self.window,
            });
        }
        // A run that has emitted 2⁶⁴ items is a lie that ends here.
        self.next = sequence.checked_add(1).ok_or(ProtocolError::ItemsAhead {
            window: self.window,
        })?;
        Ok(())
    }

    /// Records that the items below `below` were taken. The last announced does not count while its
    /// payload is on the way.
    pub(super) fn take(&mut self, below: u64, underway: bool) -> Result<(), ProtocolError> {
        let complete = self.next - u64::from(underway);
        if below <= self.taken || below > complete {
            return Err(ProtocolError::TakenOutside {
                below,
                taken: self.taken,
                sent: complete,
            });
        }
        self.taken = below;
        Ok(())
    }
}
