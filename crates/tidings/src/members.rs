//! A map of users in the order of their ids, which takes little where there are few: most rooms are one user's own.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::auth::UserId;

/// With more than so many, a tree: its nodes have room for eleven, whether they are there or not.
const FEW_MAX: usize = 64;

/// Users with something about each.
pub(crate) enum Members<V> {
    /// Sorted.
    Few(Vec<(UserId, V)>),
    Many(BTreeMap<UserId, V>),
}

impl<V> Default for Members<V> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<V> Members<V> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    pub(crate) fn get(&self, user: &UserId) -> Option<&V> {
        match self {
            Self::Few(few) => {
                let at = few.binary_search_by(|(known, _)| known.cmp(user)).ok()?;
                few.get(at).map(|(_, value)| value)
            }
            Self::Many(many) => many.get(user),
        }
    }

    pub(crate) fn get_mut(&mut self, user: &UserId) -> Option<&mut V> {
        match self {
            Self::Few(few) => {
                let at = few.binary_search_by(|(known, _)| known.cmp(user)).ok()?;
                few.get_mut(at).map(|(_, value)| value)
            }
            Self::Many(many) => many.get_mut(user),
        }
    }

    /// Adds a user who is not there.
    pub(crate) fn insert(&mut self, user: UserId, value: V) {
        match self {
            Self::Few(few) if few.len() < FEW_MAX => {
                let at = few.partition_point(|(known, _)| *known < user);
                if few.len() == few.capacity() {
                    few.reserve_exact(1 + few.len() / 8);
                }
                few.insert(at, (user, value));
            }
            Self::Few(few) => {
                let mut many: BTreeMap<_, _> = std::mem::take(few).into_iter().collect();
                many.insert(user, value);
                *self = Self::Many(many);
            }
            Self::Many(many) => drop(many.insert(user, value)),
        }
    }

    pub(crate) fn remove(&mut self, user: &UserId) -> Option<V> {
        match self {
            Self::Few(few) => {
                let at = few.binary_search_by(|(known, _)| known.cmp(user)).ok()?;
                Some(few.remove(at).1)
            }
            Self::Many(many) => {
                let value = many.remove(user);
                // Not as soon as it would fit, or one who comes and goes would turn it over each time.
                if many.len() <= FEW_MAX / 2 {
                    *self = Self::Few(std::mem::take(many).into_iter().collect());
                }
                value
            }
        }
    }

    /// At most so many users after `after`, in their order, and whether more follow.
    pub(crate) fn page<T>(
        &self,
        after: Option<&str>,
        limit: usize,
        show: impl Fn(&UserId, &V) -> T,
    ) -> (Vec<T>, bool) {
        match self {
            Self::Few(few) => {
                let from = after.map_or(0, |after| few.partition_point(|(known, _)| known.as_str() <= after));
                let shown = few[from..].iter().take(limit).map(|(user, value)| show(user, value)).collect();
                (shown, few.len() - from > limit)
            }
            Self::Many(many) => {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let mut rest = many.range::<str, _>((from, Bound::Unbounded));
                let shown = rest.by_ref().take(limit).map(|(user, value)| show(user, value)).collect();
                (shown, rest.next().is_some())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn few_or_many_it_is_a_sorted_map(steps in proptest::collection::vec((0..100_u8, proptest::bool::weighted(0.7)), 0..300), after: Option<u8>, limit in 0..50_usize) {
            let (mut members, mut model) = (Members::default(), BTreeMap::new());
            let user = |number: u8| UserId::parse(&format!("u{number:03}")).unwrap();
            for (index, (number, comes)) in steps.into_iter().enumerate() {
                let user = user(number);
                prop_assert_eq!(members.get_mut(&user).copied(), model.get(&user).copied());
                prop_assert_eq!(members.get(&user), model.get(&user));
                match (comes, model.contains_key(&user)) {
                    (true, false) => {
                        members.insert(user.clone(), index);
                        model.insert(user, index);
                    }
                    (true, true) => {}
                    (false, _) => prop_assert_eq!(members.remove(&user), model.remove(&user)),
                }
                prop_assert_eq!(members.len(), model.len());
            }
            let after = after.map(|number| user(number).as_str().to_owned());
            let (page, more) = members.page(after.as_deref(), limit, |user, index| (user.clone(), *index));
            let rest: Vec<_> = model
                .into_iter()
                .filter(|(user, _)| after.as_deref().is_none_or(|after| user.as_str() > after))
                .collect();
            prop_assert_eq!(more, rest.len() > limit);
            prop_assert_eq!(&page[..], &rest[..limit.min(rest.len())]);
        }
    }
}
