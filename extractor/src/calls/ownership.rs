//! Which flows of the window touch an endpoint, and who owns each flow.

use smallvec::SmallVec;

use super::CallNumber;
use crate::{
    events::{Flows, Table},
    packet::Endpoint,
};

/// The owners of the flows of one window.
#[derive(Debug, Default)]
pub struct Ownership {
    touching: Table<Endpoint, SmallVec<[usize; 2]>>,
    owners: Vec<Owners>,
}

/// The owners of one flow.
pub type Owners = SmallVec<[Owner; 1]>;

/// A call that owns a flow, and by which of its claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The call.
    pub call: CallNumber,
    /// The index of the claim among the call's.
    pub claim: usize,
}

impl Ownership {
    /// Nobody owns anything yet.
    #[must_use]
    pub fn of(flows: &Flows) -> Self {
        let mut touching: Table<Endpoint, SmallVec<[usize; 2]>> = Table::default();
        for (flow, key) in flows.keys().iter().enumerate() {
            touching.entry(key.source).or_default().push(flow);
            if key.destination != key.source {
                touching.entry(key.destination).or_default().push(flow);
            }
        }
        Self { touching, owners: vec![Owners::new(); flows.keys().len()] }
    }

    /// The flows that come from or go to an endpoint.
    #[must_use]
    pub fn flows_touching(&self, endpoint: Endpoint) -> SmallVec<[usize; 2]> {
        self.touching.get(&endpoint).cloned().unwrap_or_default()
    }

    /// Whether a flow is nobody's.
    #[must_use]
    pub fn is_free(&self, flow: usize) -> bool {
        self.owners.get(flow).is_some_and(SmallVec::is_empty)
    }

    /// Gives the flow to others; who owned it before.
    pub fn replace(&mut self, flow: usize, owners: Owners) -> Owners {
        self.owners.get_mut(flow).map(|slot| std::mem::replace(slot, owners)).unwrap_or_default()
    }
}
