//! Places of which a key has so many, a number that may change while some are taken.

use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::scheduler::lock;

/// So many places. Whoever wants one waits for it.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    size: Mutex<Size>,
}

struct Size {
    places: u32,
    /// Places that are taken and will not be free again: there are fewer now.
    owed: u32,
}

/// A taken place, given back when dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Places {
    pub(crate) fn new(places: u32) -> Arc<Places> {
        Arc::new(Places {
            free: Arc::new(Semaphore::new(places as usize)),
            size: Mutex::new(Size { places, owed: 0 }),
        })
    }

    /// Takes a place, once there is one.
    pub(crate) async fn take(self: &Arc<Self>) -> Place {
        let permit = self.free.clone().acquire_owned().await;
        Place {
            places: self.clone(),
            permit: Some(permit.expect("the semaphore is never closed")),
        }
    }

    /// Whether there is no place free.
    pub(crate) fn are_taken(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Has so many places from now on. Those that are taken stay so.
    pub(crate) fn resize(&self, places: u32) {
        let mut size = lock(&self.size);
        if places > size.places {
            let mut more = places - size.places;
            let kept = size.owed.min(more);
            size.owed -= kept;
            more -= kept;
            self.free.add_permits(more as usize);
        } else {
            let fewer = size.places - places;
            let gone = self.free.forget_permits(fewer as usize);
            size.owed += fewer - gone as u32;
        }
        size.places = places;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut size = lock(&self.places.size);
        if size.owed > 0
            && let Some(permit) = self.permit.take()
        {
            size.owed -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(places: &Places) -> usize {
        places.free.available_permits()
    }

    #[tokio::test]
    async fn fewer_places_hold_once_those_that_are_taken_are_free() {
        let places = Places::new(3);
        let taken = [places.take().await, places.take().await];
        places.resize(1);
        assert_eq!(free(&places), 0);
        let [one, other] = taken;
        drop(one);
        assert_eq!(free(&places), 0, "there is one place, and it is taken");
        drop(other);
        assert_eq!(free(&places), 1);
    }

    #[tokio::test]
    async fn more_places_are_there_at_once() {
        let places = Places::new(1);
        let taken = places.take().await;
        places.resize(0);
        places.resize(3);
        assert_eq!(free(&places), 2);
        drop(taken);
        assert_eq!(free(&places), 3);
    }
}
