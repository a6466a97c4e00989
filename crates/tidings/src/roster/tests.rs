use proptest::prelude::*;

use super::*;

/// Each life has another.
fn epoch(number: u64) -> Epoch {
    Epoch::from_random(number)
}

fn user(number: u8) -> UserId {
    UserId::parse(&format!("u{number}")).unwrap()
}

fn info(number: u8) -> Info {
    serde_json::value::RawValue::from_string(number.to_string()).ok().map(Into::into)
}

/// What the broker has, and what is on its way.
struct Broker {
    users: BTreeMap<UserId, Info>,
    lives: u64,
    at: Revision,
    settled: Duration,
    /// Carried, and not here yet.
    carried: Vec<Deltas>,
}

impl Broker {
    fn new() -> Self {
        let at = Revision { epoch: epoch(0), rev: 1000 };
        Self { lives: 0, users: BTreeMap::new(), at, settled: SETTLED_AFTER, carried: Vec::new() }
    }

    fn change(&mut self, number: u8, shown: Option<u8>) {
        let (user, before) = (user(number), self.at);
        let (kind, info) = match shown {
            Some(shown) => (PresenceChange::Update, info(shown)),
            None => (PresenceChange::Leave, None),
        };
        let kind = match (kind, self.users.contains_key(&user)) {
            (PresenceChange::Leave, false) => return,
            (PresenceChange::Update, false) => PresenceChange::Join,
            (kind, _) => kind,
        };
        match kind {
            PresenceChange::Leave => drop(self.users.remove(&user)),
            _ => drop(self.users.insert(user.clone(), info.clone())),
        }
        self.at.rev += 1;
        self.carried.push(Deltas { before, changes: vec![Change { kind, user, info }], bytes: 10 });
    }

    /// It goes on in another life, as a server that has lost something or has another history.
    fn move_on(&mut self) {
        self.lives += 1;
        self.at.epoch = epoch(self.lives);
        self.settled = Duration::ZERO;
        self.jump(0);
    }

    fn jump(&mut self, known_rev: u64) {
        self.at.rev = self.at.rev.max(known_rev) + 1_000_000;
        self.carried.push(Deltas { before: self.at, changes: Vec::new(), bytes: 10 });
    }

    /// A page of at most three; the cursor is how many went before, in an order that stays.
    fn page(&mut self, ask: AskList) -> ListPage {
        if ask.jump || ask.known_rev > self.at.rev {
            self.jump(ask.known_rev);
        }
        let page = (0..9_u8).skip(ask.cursor as usize).take(3);
        let listed = page.filter_map(|number| {
            let info = self.users.get(&user(number))?.clone();
            Some(Listed { user: user(number), info, here: number == 0 })
        });
        let cursor = if ask.cursor + 3 < 9 { ask.cursor + 3 } else { 0 };
        ListPage { at: self.at, settled: self.settled, cursor, listed: listed.collect() }
    }
}

/// Whoever was told everything that the roster tells has this, as of this revision.
#[derive(Default)]
struct Client {
    users: BTreeMap<UserId, Info>,
    rev: u64,
}

impl Client {
    fn told(&mut self, rev: u64, change: Option<Change>) {
        assert!(rev > self.rev, "a client would drop {rev}, it has {}", self.rev);
        self.rev = rev;
        if let Some(Change { kind, user, info }) = change {
            match kind {
                PresenceChange::Leave => drop(self.users.remove(&user)),
                _ => drop(self.users.insert(user, info)),
            }
        }
    }
}

struct World {
    broker: Broker,
    roster: Roster,
    client: Client,
    /// A read that is on its way.
    page: Option<(AskList, ListPage)>,
    /// When the list is to be read again.
    again_at: Option<Instant>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let mut roster = Roster::default();
        roster.subscribed();
        Self {
            broker: Broker::new(),
            roster,
            client: Client::default(),
            page: None,
            again_at: None,
            now: Instant::now(),
        }
    }

    fn carry(&mut self) {
        if self.broker.carried.is_empty() {
            return;
        }
        let deltas = self.broker.carried.remove(0);
        for (rev, change) in self.roster.take(deltas) {
            let told = self.roster.apply(rev, change);
            self.client.told(rev, told);
        }
    }

    fn ask(&mut self) {
        if self.page.is_none()
            && let Some(ask) = self.roster.next_read()
        {
            self.page = Some((ask, self.broker.page(ask)));
        }
    }

    /// The answer comes behind all that was carried before it.
    fn answer(&mut self) {
        let Some((ask, page)) = self.page.take() else { return };
        while self.broker.carried.first().is_some_and(|deltas| deltas.before.rev < page.at.rev) {
            self.carry();
        }
        if let Read::Through(through) = self.roster.page(ask, page, self.now) {
            self.again_at = through.again_at;
            let rev = self.roster.rev();
            if rev > through.before {
                let first = rev - through.changes.len() as u64;
                for (rev, change) in (first + 1..).zip(through.changes) {
                    self.client.told(rev, Some(change));
                }
                self.client.rev = rev;
            } else {
                assert!(through.changes.is_empty(), "nobody can be told");
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..4 {
            self.now += SETTLED_AFTER;
            self.broker.settled += SETTLED_AFTER;
            let agrees = self.roster.at().is_some_and(|at| self.roster.agrees(at, self.broker.at));
            if !agrees || self.again_at.take_if(|at| *at <= self.now).is_some() {
                self.roster.doubt();
            }
            for _ in 0..20 {
                self.ask();
                self.answer();
                self.carry();
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Change(u8, Option<u8>),
    Carry,
    Lose,
    Ask,
    Answer,
    Doubt,
    Reconnect,
    /// The broker has nobody any more.
    Forget,
    /// It goes on elsewhere.
    Move,
    Wait,
}

fn step(is_calm: bool) -> BoxedStrategy<Step> {
    let calm = prop_oneof![
        8 => (0..9_u8, any::<Option<u8>>()).prop_map(|(user, shown)| Step::Change(user, shown)),
        8 => Just(Step::Carry),
        2 => Just(Step::Lose),
        5 => Just(Step::Ask),
        5 => Just(Step::Answer),
    ];
    // Each of these has the list read, which would hide what was not noticed before.
    let wild = prop_oneof![
        Just(Step::Doubt),
        Just(Step::Reconnect),
        Just(Step::Forget),
        Just(Step::Move),
        Just(Step::Wait),
    ];
    if is_calm { calm.boxed() } else { prop_oneof![5 => calm, 1 => wild].boxed() }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    any::<bool>().prop_flat_map(|is_calm| proptest::collection::vec(step(is_calm), 0..150))
}

proptest! {
    #[test]
    fn whoever_is_told_what_it_tells_ends_with_the_brokers_list(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Change(number, shown) => world.broker.change(number, shown),
                Step::Carry => world.carry(),
                Step::Lose if !world.broker.carried.is_empty() => drop(world.broker.carried.remove(0)),
                Step::Lose => {}
                Step::Ask => world.ask(),
                Step::Answer => world.answer(),
                Step::Doubt => world.roster.doubt(),
                Step::Reconnect => {
                    world.roster.disconnected();
                    world.broker.carried.clear();
                    world.roster.subscribed();
                }
                Step::Forget | Step::Move => {
                    if matches!(step, Step::Forget) {
                        world.broker.users.clear();
                    }
                    world.broker.move_on();
                }
                Step::Wait => {
                    world.now += SETTLED_AFTER;
                    world.broker.settled += SETTLED_AFTER;
                }
            }
        }
        world.settle();
        prop_assert!(world.roster.is_following());
        prop_assert_eq!(world.roster.at(), Some(world.broker.at));
        let list = |users: &BTreeMap<UserId, Info>| {
            let mut list: Vec<_> = users
                .iter()
                .map(|(user, info)| (user.as_str().to_owned(), info.as_ref().map(|info| info.get().to_owned())))
                .collect();
            list.sort();
            list
        };
        let page = world.roster.list(None, usize::MAX, usize::MAX, None);
        let ours: BTreeMap<_, _> = page.members.into_iter().collect();
        prop_assert_eq!(list(&ours), list(&world.broker.users));
        prop_assert_eq!(list(&world.client.users), list(&world.broker.users));
    }
}

/// A roster that has read these users.
fn listed(numbers: &[u8]) -> Roster {
    let mut world = World::new();
    for number in numbers {
        world.broker.change(*number, None);
        world.broker.change(*number, Some(0));
    }
    world.settle();
    world.roster
}

#[test]
fn what_the_broker_lost_stays_until_every_node_has_put_its_own_back() {
    let mut world = World::new();
    world.broker.change(1, Some(1));
    world.broker.change(2, Some(2));
    world.settle();
    world.broker.users.clear();
    world.broker.move_on();
    for _ in 0..8 {
        world.carry();
        world.ask();
        world.answer();
    }
    assert_eq!((world.roster.len(), world.client.users.len()), (2, 2));
    // The first is put back, which nobody notices; the second's node is gone.
    world.broker.change(1, Some(1));
    let before = world.roster.rev();
    world.carry();
    assert_eq!((world.roster.rev(), world.roster.len()), (before + 1, 2));
    world.settle();
    assert_eq!((world.roster.len(), world.client.users.len()), (1, 1));
    assert_eq!(world.client.rev, world.roster.rev());
}

#[test]
fn who_asks_sees_himself_wherever_he_stands_in_the_list() {
    let roster = listed(&[2, 4, 6]);
    for asker in [1, 3, 5, 7] {
        let asker = user(asker);
        let (mut after, mut seen) = (None::<String>, Vec::new());
        loop {
            let page = roster.list(after.as_deref(), 2, usize::MAX, Some(&asker));
            assert!(page.count == 4 && page.members.len() <= 2, "{asker}");
            seen.extend(page.members.iter().map(|(user, _)| user.as_str().to_owned()));
            if !page.more {
                break;
            }
            after = seen.last().cloned();
        }
        let mut expected = vec!["u2", "u4", "u6", asker.as_str()];
        expected.sort_unstable();
        assert_eq!(seen, expected, "{asker}");
    }
    assert_eq!(roster.list(None, 0, usize::MAX, Some(&user(1))).count, 4);
    assert_eq!(roster.list(None, 9, usize::MAX, Some(&user(2))).count, 3);
}

#[test]
fn a_read_of_a_connection_that_was_lost_counts_no_more() {
    let mut world = World::new();
    world.broker.change(1, Some(1));
    world.ask();
    let (ask, page) = world.page.take().unwrap();
    world.roster.disconnected();
    world.roster.subscribed();
    world.roster.next_read().unwrap();
    assert!(matches!(world.roster.page(ask, page, world.now), Read::Again));
    assert!(!world.roster.is_listed());
}

#[test]
fn what_is_kept_while_the_list_is_read_is_bounded() {
    let mut world = World::new();
    world.ask();
    for number in 0..=KEPT_MESSAGES_MAX {
        world.broker.change(1, Some((number % 200) as u8));
        world.carry();
    }
    world.answer();
    world.ask();
    world.answer();
    world.ask();
    world.answer();
    assert!(!world.roster.is_following(), "some of it was dropped");
    world.settle();
    assert_eq!(world.roster.at(), Some(world.broker.at));
}
