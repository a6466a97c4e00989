//! The rules of docs/redis.md as the model follows them, and the faults that can be put into them.

macro_rules! mutants {
    ($($(#[$doc:meta])* $mutant:ident,)*) => {
        /// One rule, broken. Each has a test that shows the promise which it costs, or why it costs none.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Mutant {
            $($(#[$doc])* $mutant,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$mutant,)*];
        }
    };
}

mutants! {
    /// No new epoch, whoever is master.
    NoLineage,
    /// The server's run id stands for its replid.
    RunIdForReplid,
    /// The replid is asked once a connection and not inside the script.
    ReplidPerConnection,
    /// A parent claims one event more than its log had.
    ParentTopPlusOne,
    /// A parent claims one event less.
    ParentTopMinusOne,
    /// A position before the oldest stored event is served all the same.
    NoTrimCheck,
    /// A position above the top, in the current epoch, is served all the same.
    AboveTopIgnored,
    /// A position above a parent's top is served all the same.
    AboveParentTopIgnored,
    /// A read counts that was sent before the newest subscription was confirmed: subscribed after reading.
    SubscribeAfterRead,
    /// A read counts that was sent on an earlier connection.
    EarlierConnectionCounts,
    /// A read counts that was sent before the heal began which it ends.
    EarlierThanHealCounts,
    /// Reads are served by replicas.
    ReadsFromReplica,
    /// A message is accepted by its offset, whatever its epoch.
    OffsetOnly,
    /// A message moves the ring's epoch.
    MessageMovesEpoch,
    /// A log that begins anew keeps the old one's events.
    LogSurvivesFreshMeta,
    /// A log that begins anew keeps the old one's idempotency ids.
    IdsSurviveFreshMeta,
    /// A stored idempotency id counts whether or not it is of this log.
    IdNotChecked,
    /// Both of the last two.
    IdsSurviveAndAreNotChecked,
    /// A read's result is shared with those who began to wait after it was sent.
    SharedReadTooEarly,
    /// A position that the ring can't serve is reset at once, without a read.
    ResetWithoutRead,
    /// Who waited for a read is judged by the ring alone, which may have trimmed what the read brought.
    ResetByRing,
    /// A read asks for what follows an offset, whether or not that position is in the log.
    ReadsAfterAnyPosition,
    /// A buffer that overflowed while healing is not healed again.
    OverflowForgotten,
    /// What did not fit after a heal stays in the buffer.
    BufferKept,
    /// Messages are accepted while healing.
    AcceptsWhileHealing,
    /// A new connection for commands does not mark the ring as healing.
    ReconnectNotHealed,
    /// A new subscription does not mark the ring as healing.
    ResubscriptionNotHealed,
    /// A ring that was thrown away resets every client, wherever it stood.
    RingResetsEverybody,
    /// A skip goes to the ring's top without a look at the position.
    SkipNotJudged,
}

/// What the model follows, and its sizes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rules {
    /// The broken rule.
    pub mutant: Option<Mutant>,
    /// How many parents a log remembers.
    pub parents_max: usize,
    /// How many messages wait for the end of a heal.
    pub buffer_max: usize,
    /// How many messages are on their way to one node.
    pub channel_max: usize,
}

impl Rules {
    /// Whether this rule is the broken one.
    pub fn broken(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}
