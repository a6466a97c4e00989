//! A part of a state that its successors share until one of them changes it: most steps change one part of many.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Shared until it is written to.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Shared<T>(Arc<T>);

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}
