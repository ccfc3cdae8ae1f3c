//! The groups of Shared Subscriptions that a shard owns (§4.8.2), and whose turn it is.
//!
//! A group is known by its whole filter, `$share/name/filter`. Its owner is the shard of that
//! text's slot, so that there is one place that chooses: members may be sessions of any shard.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use crate::codec::QoS;
use crate::hook::SessionId;
use crate::peer::{Member, Standing};
use crate::slot::ShardId;
use crate::topic::{TopicFilter, TopicTree};

/// The groups that a shard owns.
#[derive(Debug)]
pub(crate) struct Groups {
    /// Where a message looks for the groups that it is for.
    places: TopicTree<TopicFilter, ()>,
    groups: BTreeMap<TopicFilter, Group>,
}

/// A member that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) filter: TopicFilter,
    pub(crate) session: SessionId,
    /// Where the session lives.
    pub(crate) shard: ShardId,
    /// Whether everybody in the group is full.
    pub(crate) last: bool,
}

#[derive(Debug, Default)]
struct Group {
    members: BTreeMap<SessionId, (ShardId, Member)>,
    /// The members of each [`Standing`].
    standing: [BTreeSet<SessionId>; 4],
    /// Whose turn it was last.
    turn: Option<SessionId>,
}

impl Groups {
    pub(crate) fn new(seed: u64) -> Self {
        Self { places: TopicTree::new(seed), groups: BTreeMap::new() }
    }

    /// Whether there is no group at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether there is a group for this filter part.
    pub(crate) fn has_place(&self, filter: &TopicFilter) -> bool {
        self.places.subscribers(filter) > 0
    }

    /// Notes a member, or what has changed about it; `None`: it leaves.
    pub(crate) fn set(
        &mut self,
        filter: &TopicFilter,
        session: SessionId,
        member: Option<(ShardId, Member)>,
    ) {
        let Some((shard, member)) = member else {
            if let Some(group) = self.groups.get_mut(filter) {
                group.remove(session);
                if group.members.is_empty() {
                    self.groups.remove(filter);
                    self.places.remove(filter, filter);
                }
            }
            return;
        };
        if !self.groups.contains_key(filter) {
            self.places.insert(filter, filter.clone(), ());
        }
        let group = self.groups.entry(filter.clone()).or_default();
        group.remove(session);
        group.members.insert(session, (shard, member));
        if let Some(same) = place(member).and_then(|place| group.standing.get_mut(place)) {
            same.insert(session);
        }
    }

    /// Changes what is known of a member.
    pub(crate) fn set_standing(
        &mut self,
        filter: &TopicFilter,
        session: SessionId,
        standing: Standing,
    ) {
        let group = self.groups.get(filter);
        if let Some((shard, member)) = group.and_then(|group| group.members.get(&session)) {
            let member = (*shard, Member { standing, ..*member });
            self.set(filter, session, Some(member));
        }
    }

    /// Chooses one member of each group that a message on `topic` is for. [MQTT-4.8.2-3]
    pub(crate) fn choose(&mut self, topic: &str, qos: QoS, chosen: &mut Vec<Chosen>) {
        let Self { places, groups } = self;
        places.matching(topic, &mut |filter, ()| {
            chosen.extend(groups.get_mut(filter).and_then(|group| group.choose(filter, qos)));
        });
    }

    /// Chooses a member of this group, if anybody can take a message of this QoS.
    pub(crate) fn choose_in(&mut self, filter: &TopicFilter, qos: QoS) -> Option<Chosen> {
        self.groups.get_mut(filter)?.choose(filter, qos)
    }
}

impl Group {
    fn remove(&mut self, session: SessionId) {
        if let Some((_, member)) = self.members.remove(&session)
            && let Some(same) = place(member).and_then(|place| self.standing.get_mut(place))
        {
            same.remove(&session);
        }
    }

    /// The next in turn of those that can take most.
    fn choose(&mut self, filter: &TopicFilter, qos: QoS) -> Option<Chosen> {
        let present = Standing::Away as usize;
        let candidates = if qos == QoS::AtMostOnce { present } else { self.standing.len() };
        let behind = self.turn.map_or(Unbounded, Excluded);
        let (standing, session) =
            self.standing.iter().take(candidates).enumerate().find_map(|(standing, same)| {
                let next = same.range((behind, Unbounded)).next().or_else(|| same.first())?;
                Some((standing, *next))
            })?;
        let (shard, _) = *self.members.get(&session)?;
        self.turn = Some(session);
        let last = standing == Standing::Full as usize;
        Some(Chosen { filter: filter.clone(), session, shard, last })
    }
}

/// Among whom a member takes its turn. Nobody: it is not there, and what it gets is sent with QoS 0
/// and lost on it.
fn place(member: Member) -> Option<usize> {
    let lost = member.qos == QoS::AtMostOnce && member.standing >= Standing::Away;
    (!lost).then_some(member.standing as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> TopicFilter {
        TopicFilter::parse("$share/g/a/+").unwrap()
    }

    fn groups(members: &[(u64, QoS, Standing)]) -> Groups {
        let mut groups = Groups::new(1);
        for (session, qos, standing) in members {
            let member = Member { qos: *qos, standing: *standing };
            groups.set(&filter(), SessionId(*session), Some((ShardId(0), member)));
        }
        groups
    }

    fn choose(groups: &mut Groups, qos: QoS) -> Option<u64> {
        let mut chosen = Vec::new();
        groups.choose("a/b", qos, &mut chosen);
        assert!(chosen.len() < 2, "{chosen:?}");
        chosen.first().map(|it| it.session.0)
    }

    #[test]
    fn those_who_can_take_most_take_turns() {
        use Standing::{Away, Busy, Ready};
        let one = QoS::AtLeastOnce;
        let mut groups =
            groups(&[(1, one, Ready), (2, one, Busy), (3, one, Ready), (4, one, Away)]);
        let chosen: Vec<_> = (0..4).map(|_| choose(&mut groups, one)).collect();
        assert_eq!(chosen, [Some(1), Some(3), Some(1), Some(3)]);
        groups.set(&filter(), SessionId(1), None);
        groups.set_standing(&filter(), SessionId(3), Away);
        assert_eq!(choose(&mut groups, one), Some(2));
        groups.set(&filter(), SessionId(2), None);
        let chosen: Vec<_> = (0..3).map(|_| choose(&mut groups, one)).collect();
        assert_eq!(chosen, [Some(3), Some(4), Some(3)]);
    }

    #[test]
    fn what_may_be_lost_goes_only_to_those_who_are_there() {
        let (zero, one) = (QoS::AtMostOnce, QoS::AtLeastOnce);
        let mut groups = groups(&[(1, one, Standing::Away), (2, zero, Standing::Away)]);
        assert_eq!(choose(&mut groups, zero), None);
        assert_eq!(choose(&mut groups, one), Some(1));
        assert_eq!(choose(&mut groups, one), Some(1));
        groups.set_standing(&filter(), SessionId(2), Standing::Busy);
        assert_eq!(choose(&mut groups, zero), Some(2));
    }

    #[test]
    fn group_without_members_leaves_nothing_behind() {
        let mut groups = groups(&[(1, QoS::AtLeastOnce, Standing::Ready)]);
        assert!(groups.has_place(&TopicFilter::parse("a/+").unwrap()));
        groups.set(&filter(), SessionId(1), None);
        assert!(!groups.has_place(&filter()) && groups.groups.is_empty());
        assert_eq!(choose(&mut groups, QoS::AtLeastOnce), None);
    }
}
