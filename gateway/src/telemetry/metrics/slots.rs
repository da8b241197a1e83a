//! Slots: which cells a label set is counted in. A configuration asks for the slot of each of its
//! names and holds it; the same name gets the same slot again, so that counting goes on across
//! reloads. A slot that nothing holds any more is given to another name.
//!
//! Must not: be touched by traffic. Dropping a slot is a decrement, finding out that it is unused
//! is left to whoever asks for the next one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Unused slots are looked for when there are this many, and then whenever the number doubled.
const SWEEP_AT: usize = 64;

/// The label value of the slot that everything is counted in for which there is no other.
pub const OVERFLOW: &str = "_other";

/// The slot of [`OVERFLOW`].
const OVERFLOW_SLOT: u32 = 0;

/// Holds a slot for as long as it exists.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) slot: u32,
    /// The slot of what this one belongs to.
    pub(super) parent: Option<Arc<Lease>>,
}

impl Lease {
    /// The slot of what this one belongs to.
    pub(super) fn parent_slot(&self) -> u32 {
        self.parent
            .as_ref()
            .map_or(OVERFLOW_SLOT, |parent| parent.slot)
    }
}

/// The values of a label set.
pub(super) type Key<const N: usize> = [Box<str>; N];

/// The slots of label sets with `N` labels.
#[derive(Debug)]
pub(super) struct Slots<const N: usize> {
    slots_max: usize,
    state: Mutex<State<N>>,
}

#[derive(Debug)]
struct State<const N: usize> {
    by_key: HashMap<Arc<Key<N>>, u32>,
    entries: Vec<Option<Entry<N>>>,
    vacant: Vec<u32>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Entry<const N: usize> {
    key: Arc<Key<N>>,
    lease: Arc<Lease>,
}

impl<const N: usize> Slots<N> {
    /// So many slots, the first of them for what does not fit in the others. `parent` is its
    /// parent.
    pub(super) fn new(slots_max: usize, parent: Option<Arc<Lease>>) -> Self {
        let overflow = Entry {
            key: Arc::new(std::array::from_fn(|_| OVERFLOW.into())),
            lease: Arc::new(Lease {
                slot: OVERFLOW_SLOT,
                parent,
            }),
        };
        let by_key = HashMap::from([(Arc::clone(&overflow.key), OVERFLOW_SLOT)]);
        let state = State {
            by_key,
            entries: vec![Some(overflow)],
            vacant: Vec::new(),
            sweep_at: SWEEP_AT,
        };
        Self {
            slots_max,
            state: Mutex::new(state),
        }
    }

    /// The slot of a label set. `clear` is called for slots that change hands.
    pub(super) fn acquire(
        &self,
        key: [&str; N],
        parent: Option<&Arc<Lease>>,
        clear: impl Fn(u32),
    ) -> Arc<Lease> {
        let key: Key<N> = key.map(Box::from);
        let mut state = self.state();
        if let Some(lease) = state.lease_of(&key) {
            return lease;
        }
        if state.vacant.is_empty() && state.entries.len() >= state.sweep_at.min(self.slots_max) {
            state.sweep(&clear);
        }
        let slot = match state.vacant.pop() {
            Some(slot) => slot,
            None if state.entries.len() < self.slots_max => {
                state.entries.push(None);
                u32::try_from(state.entries.len() - 1).unwrap_or(OVERFLOW_SLOT)
            }
            None => OVERFLOW_SLOT,
        };
        state.occupy(slot, key, parent.cloned())
    }

    /// The label sets that something holds, with their slots. `clear` is called for slots that
    /// changed hands.
    pub(super) fn held(&self, clear: impl Fn(u32)) -> Vec<(Arc<Key<N>>, u32)> {
        let mut state = self.state();
        state.sweep(&clear);
        let entries = state.entries.iter().flatten();
        entries
            .map(|entry| (Arc::clone(&entry.key), entry.lease.slot))
            .collect()
    }

    /// The lease of the first slot.
    pub(super) fn overflow(&self) -> Option<Arc<Lease>> {
        self.state().lease_at(OVERFLOW_SLOT)
    }

    fn state(&self) -> MutexGuard<'_, State<N>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<const N: usize> State<N> {
    fn lease_of(&self, key: &Key<N>) -> Option<Arc<Lease>> {
        self.lease_at(*self.by_key.get(key)?)
    }

    fn lease_at(&self, slot: u32) -> Option<Arc<Lease>> {
        let entry = self.entries.get(slot as usize)?.as_ref()?;
        Some(Arc::clone(&entry.lease))
    }

    /// Gives a slot to a label set. The overflow slot keeps its own name.
    fn occupy(&mut self, slot: u32, key: Key<N>, parent: Option<Arc<Lease>>) -> Arc<Lease> {
        let lease = Arc::new(Lease { slot, parent });
        if slot == OVERFLOW_SLOT {
            return self.lease_at(OVERFLOW_SLOT).unwrap_or(lease);
        }
        let key = Arc::new(key);
        self.by_key.insert(Arc::clone(&key), slot);
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            *entry = Some(Entry {
                key,
                lease: Arc::clone(&lease),
            });
        }
        lease
    }

    /// Makes slots vacant that nothing holds. A worker that counted in such a slot did so before it
    /// let go of the configuration that held it, and whoever is given the slot learns of it from a
    /// later one: nobody counts while it is cleared.
    fn sweep(&mut self, clear: impl Fn(u32)) {
        for entry in self.entries.iter_mut().skip(1) {
            let unused = entry
                .as_mut()
                .is_some_and(|entry| Arc::get_mut(&mut entry.lease).is_some());
            if unused && let Some(entry) = entry.take() {
                clear(entry.lease.slot);
                self.by_key.remove(&entry.key);
                self.vacant.push(entry.lease.slot);
            }
        }
        self.sweep_at = SWEEP_AT.max(2 * self.by_key.len());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn nothing(_: u32) {}

    #[test]
    fn a_name_keeps_its_slot_as_long_as_it_is_held() {
        let slots: Slots<2> = Slots::new(100, None);
        let first = slots.acquire(["shop", "api"], None, nothing);
        let other = slots.acquire(["shop", "web"], None, nothing);
        let again = slots.acquire(["shop", "api"], None, nothing);
        assert_eq!(first.slot, again.slot);
        assert_ne!(first.slot, other.slot);
        drop(first);
        assert_eq!(slots.held(nothing).len(), 3);
        drop(again);
        let held = slots.held(nothing);
        let names: Vec<_> = held.iter().map(|(key, _)| &*key[1]).collect();
        assert_eq!(names, [OVERFLOW, "web"]);
    }

    #[test]
    fn an_unused_slot_is_cleared_and_given_away() {
        let slots: Slots<1> = Slots::new(2, None);
        let cleared = RefCell::new(Vec::new());
        let clear = |slot| cleared.borrow_mut().push(slot);
        let a = slots.acquire(["a"], None, clear);
        let slot = a.slot;
        drop(a);
        assert!(cleared.borrow().is_empty());
        let b = slots.acquire(["b"], None, clear);
        assert_eq!(b.slot, slot);
        assert_eq!(*cleared.borrow(), [slot]);
    }

    #[test]
    fn what_does_not_fit_shares_a_slot() {
        let slots: Slots<1> = Slots::new(3, None);
        let names = ["a", "b", "c", "d"];
        let leases = names.map(|name| slots.acquire([name], None, nothing));
        assert_eq!(leases.map(|lease| lease.slot), [1, 2, 0, 0]);
        assert_eq!(
            slots.held(nothing).len(),
            1,
            "the others went with the leases"
        );
        assert_eq!(slots.acquire(["c"], None, nothing).slot, 2);
    }

    #[test]
    fn a_child_holds_its_parent() {
        let domains: Slots<1> = Slots::new(10, None);
        let routes: Slots<2> = Slots::new(10, domains.overflow());
        let domain = domains.acquire(["shop"], None, nothing);
        let slot = domain.slot;
        let route = routes.acquire(["shop", "api"], Some(&domain), nothing);
        drop(domain);
        assert_eq!(domains.held(nothing).len(), 2);
        assert_eq!(route.parent_slot(), slot);
        drop(route);
        routes.held(nothing);
        assert_eq!(domains.held(nothing).len(), 1);
    }

    #[test]
    fn unused_slots_are_found_before_the_table_doubles() {
        let slots: Slots<1> = Slots::new(100_000, None);
        let names: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
        let leases: Vec<_> = names
            .iter()
            .map(|name| slots.acquire([name], None, nothing))
            .collect();
        let first = leases.len();
        drop(leases);
        let sweeps = RefCell::new(0);
        let leases: Vec<_> = names
            .iter()
            .map(|name| {
                slots.acquire([&format!("new-{name}")], None, |_| {
                    *sweeps.borrow_mut() += 1;
                })
            })
            .collect();
        assert_eq!(*sweeps.borrow(), first, "each unused slot is cleared once");
        assert!(slots.state().entries.len() <= 2 * leases.len());
    }
}
