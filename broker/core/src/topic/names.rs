//! Topic Names to a value each, asked with a Topic Filter: where retained messages live (§3.3.1.3).
//!
//! A tree of levels, each node's children in order: what a filter finds comes sorted by level, the
//! same on every machine and whatever the history. No hashing, so no seed.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::filter::TopicFilter;
use super::slab::{NodeId, Slab};
use super::small_map::{self, SmallMap};

/// Topic Names and their values.
///
/// Takes any text as a name, and has no bounds of its own: whoever inserts has checked the name
/// and counts (see [`super::check_name`], [`super::TopicLimits`]). A name costs at most a node for
/// each of its levels.
#[derive(Debug, Clone)]
pub struct TopicNames<V> {
    /// Never without the root, which stands for what comes before the first level.
    nodes: Slab<Node<V>>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Node<V> {
    parent: NodeId,
    children: SmallMap<Box<str>, NodeId>,
    /// The whole name, so that finding need not put it together, and its value.
    entry: Option<(Arc<str>, V)>,
}

const ROOT: NodeId = 0;

impl<V> Default for TopicNames<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> TopicNames<V> {
    /// Without any name.
    pub fn new() -> Self {
        let mut nodes = Slab::new();
        nodes.insert(Node::new(ROOT));
        Self { nodes, len: 0 }
    }

    /// Gives a name its value and returns the one it had before.
    pub fn insert(&mut self, topic: &str, value: V) -> Option<V> {
        let mut at = ROOT;
        for level in topic.split('/') {
            at = match self.nodes.get(at).and_then(|node| node.children.get(level)) {
                Some(child) => *child,
                None => {
                    let child = self.nodes.insert(Node::new(at));
                    self.nodes.get_mut(at)?.children.insert(level.into(), child);
                    child
                }
            };
        }
        let entry = &mut self.nodes.get_mut(at)?.entry;
        if let Some((_, old)) = entry {
            return Some(std::mem::replace(old, value));
        }
        *entry = Some((topic.into(), value));
        self.len += 1;
        None
    }

    /// Takes a name and its value away.
    pub fn remove(&mut self, topic: &str) -> Option<V> {
        let at = self.find(topic)?;
        let (_, value) = self.nodes.get_mut(at)?.entry.take()?;
        self.len -= 1;
        self.prune(at, topic);
        Some(value)
    }

    /// The value of exactly this name.
    pub fn get(&self, topic: &str) -> Option<&V> {
        self.nodes.get(self.find(topic)?)?.entry.as_ref().map(|(_, value)| value)
    }

    /// Calls `found` for every name that the filter matches, in the order of their levels.
    ///
    /// Of a shared subscription, what its filter part matches; that a shared subscription gets no
    /// retained messages (§4.8.2) is for the caller to know.
    pub fn matching<'t>(&'t self, filter: &TopicFilter, found: &mut impl FnMut(&'t str, &'t V)) {
        let mut nodes = usize::MAX;
        self.matching_after(filter, None, &mut nodes, &mut |topic, value| {
            found(topic, value);
            ControlFlow::Continue(())
        });
    }

    /// The same in pieces: behind the place where the last piece ended, until `found` breaks behind
    /// the name that it was called for, or as many nodes were looked at as `nodes` says, which goes
    /// down by them. The place where this piece ends; `None`: nothing is behind it.
    ///
    /// Names may come and go between two pieces. None that was there all the time is missed, and
    /// none comes twice.
    pub fn matching_after<'t>(
        &'t self,
        filter: &TopicFilter,
        after: Option<&str>,
        nodes: &mut usize,
        found: &mut impl FnMut(&'t str, &'t V) -> ControlFlow<()>,
    ) -> Option<Box<str>> {
        // The way to a place that is gone ends before it.
        if let Some(after) = after.filter(|_| *nodes == 0) {
            return Some(after.into());
        }
        let mut walk = Walk { open: Vec::new(), path: Vec::new() };
        let all =
            Step { at: ROOT, level: None, wanted: Wanted::of(filter.pattern()), again: false };
        let mut next = match after {
            None => Some(all),
            Some(after) => self.go_to(all, after, &mut walk),
        };
        loop {
            // The root is no place: it is looked at with the first name.
            if *nodes == 0 && !walk.path.is_empty() {
                return Some(walk.place());
            }
            let step = next.take().or_else(|| walk.next())?;
            if let Some(level) = step.level {
                walk.path.push(level);
                *nodes = nodes.saturating_sub(1);
            }
            let Some(node) = self.nodes.get(step.at) else { continue };
            if !(step.again || matches!(step.wanted, Wanted::Levels(_)))
                && let Some((topic, value)) = &node.entry
                && found(topic, value).is_break()
            {
                return Some(walk.place());
            }
            let children = node.children.iter_after::<str>(None);
            next = match step.wanted.below() {
                Below::Nothing => None,
                Below::Each(wanted) => {
                    walk.open(step.at, children, wanted);
                    None
                }
                Below::One(level, wanted) => {
                    let child = node.children.get_key_value(level);
                    child.map(|(level, at)| Step {
                        at: *at,
                        level: Some(level),
                        wanted,
                        again: false,
                    })
                }
            };
        }
    }

    /// Opens what lies behind the place `after` on the way there. The step that comes next, if that
    /// is not one of these.
    fn go_to<'t, 'f>(
        &'t self,
        all: Step<'t, 'f>,
        after: &str,
        walk: &mut Walk<'t, 'f>,
    ) -> Option<Step<'t, 'f>> {
        let (mut at, mut wanted) = (all.at, all.wanted);
        for passed in after.split('/') {
            let children = &self.nodes.get(at)?.children;
            let child = children.get_key_value(passed);
            match wanted.below() {
                Below::Nothing => return None,
                Below::Each(each) => {
                    walk.open(at, children.iter_after(Some(passed)), each);
                    wanted = each;
                }
                Below::One(level, one) => {
                    if level != passed {
                        let (level, at) =
                            children.get_key_value(level).filter(|_| level > passed)?;
                        return Some(Step {
                            at: *at,
                            level: Some(level),
                            wanted: one,
                            again: false,
                        });
                    }
                    wanted = one;
                }
            }
            // Where it is gone, so is everything that was below it.
            let (level, child) = child?;
            walk.path.push(level);
            at = *child;
        }
        Some(Step { at, level: None, wanted, again: true })
    }

    /// How many names have a value.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no name has a value.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the names occupy, for metrics: one for each level they have. Zero when there are none.
    pub const fn nodes(&self) -> usize {
        self.nodes.len() - 1
    }

    fn find(&self, topic: &str) -> Option<NodeId> {
        topic
            .split('/')
            .try_fold(ROOT, |at, level| self.nodes.get(at)?.children.get(level).copied())
    }

    /// Removes the node and those above it that no name needs any more.
    fn prune(&mut self, mut at: NodeId, topic: &str) {
        for level in topic.rsplit('/') {
            if !self.nodes.get(at).is_some_and(Node::is_unused) {
                return;
            }
            let Some(node) = self.nodes.remove(at) else { return };
            if let Some(above) = self.nodes.get_mut(node.parent) {
                above.children.remove(level);
            }
            at = node.parent;
        }
        // Free places stay for later names, unless there are many and nothing else.
        if self.len == 0 && self.nodes.places() > KEPT {
            *self = Self::new();
        }
    }
}

impl<V> Node<V> {
    const fn new(parent: NodeId) -> Self {
        Self { parent, children: SmallMap::Empty, entry: None }
    }

    const fn is_unused(&self) -> bool {
        self.children.is_empty() && self.entry.is_none()
    }
}

/// What a filter still asks for at a node.
#[derive(Debug, Clone, Copy)]
enum Wanted<'f> {
    /// Nothing more: the node itself.
    Here,
    /// These levels below it.
    Levels(&'f str),
    /// The node and everything below it.
    All,
}

/// What a filter asks for below a node.
enum Below<'f> {
    Nothing,
    /// This of every child.
    Each(Wanted<'f>),
    /// This of one child.
    One(&'f str, Wanted<'f>),
}

impl<'f> Wanted<'f> {
    /// What these levels ask for at the node above them.
    fn of(levels: &'f str) -> Self {
        if levels == "#" { Self::All } else { Self::Levels(levels) }
    }

    fn below(self) -> Below<'f> {
        let levels = match self {
            Self::Here => return Below::Nothing,
            Self::All => return Below::Each(Self::All),
            Self::Levels(levels) => levels,
        };
        let (level, wanted) = match levels.split_once('/') {
            Some((level, rest)) => (level, Self::of(rest)),
            None => (levels, Self::Here),
        };
        if level == "+" { Below::Each(wanted) } else { Below::One(level, wanted) }
    }
}

/// A node that is looked at.
struct Step<'t, 'f> {
    at: NodeId,
    /// Its own level, where that has still to be added to the path.
    level: Option<&'t str>,
    wanted: Wanted<'f>,
    /// Whether the last piece ended with it, so that only what is below it is still to come.
    again: bool,
}

/// Where a walk over the names is: as deep as the filter or the names are, whichever bounds it,
/// never as wide.
struct Walk<'t, 'f> {
    open: Vec<Branch<'t, 'f>>,
    /// The levels of the node that was looked at last.
    path: Vec<&'t str>,
}

/// Children of a node that are still to be looked at.
struct Branch<'t, 'f> {
    children: small_map::IterAfter<'t, Box<str>, NodeId>,
    /// How many levels the node has.
    depth: usize,
    /// Whether a child beginning with `$` is passed over.
    reserved: bool,
    wanted: Wanted<'f>,
}

impl<'t, 'f> Walk<'t, 'f> {
    /// Adds children of the node that the path leads to.
    fn open(
        &mut self,
        at: NodeId,
        children: small_map::IterAfter<'t, Box<str>, NodeId>,
        wanted: Wanted<'f>,
    ) {
        // [MQTT-4.7.2-1]
        let reserved = at == ROOT;
        self.open.push(Branch { children, depth: self.path.len(), reserved, wanted });
    }

    fn next(&mut self) -> Option<Step<'t, 'f>> {
        while let Some(branch) = self.open.last_mut() {
            let reserved = branch.reserved;
            match branch.children.find(|(level, _)| !(reserved && level.starts_with('$'))) {
                Some((level, child)) => {
                    self.path.truncate(branch.depth);
                    let (at, wanted) = (*child, branch.wanted);
                    return Some(Step { at, level: Some(level), wanted, again: false });
                }
                None => self.open.pop(),
            };
        }
        None
    }

    /// The node that was looked at last.
    fn place(&self) -> Box<str> {
        self.path.join("/").into()
    }
}

/// Places that are kept even if nothing uses them: giving back less is not worth the work.
const KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(topics: &[&str]) -> TopicNames<usize> {
        let mut names = TopicNames::new();
        for (value, topic) in topics.iter().enumerate() {
            assert_eq!(names.insert(topic, value), None);
        }
        names
    }

    fn found<'t>(names: &'t TopicNames<usize>, filter: &str) -> Vec<&'t str> {
        let mut found = Vec::new();
        let filter = TopicFilter::parse(filter).unwrap();
        names.matching(&filter, &mut |topic, _| found.push(topic));
        found
    }

    #[test]
    fn names_are_found_in_the_order_of_their_levels() {
        let names = names(&["b/a", "a-b", "a", "a/b", "/a", "a/", "a/b/c", "$SYS/a", "a-b/a"]);
        assert_eq!(
            found(&names, "#"),
            ["/a", "a", "a/", "a/b", "a/b/c", "a-b", "a-b/a", "b/a"],
            "[MQTT-4.7.2-1]"
        );
        assert_eq!(found(&names, "+/a"), ["/a", "a-b/a", "b/a"]);
        assert_eq!(found(&names, "a/+"), ["a/", "a/b"]);
        assert_eq!(found(&names, "a/#"), ["a", "a/", "a/b", "a/b/c"]);
        assert_eq!(found(&names, "+/+/c"), ["a/b/c"]);
        assert_eq!(found(&names, "+"), ["a", "a-b"]);
        assert_eq!(found(&names, "a/b"), ["a/b"]);
        assert_eq!(found(&names, "$share/g/a/b"), ["a/b"]);
    }

    #[test]
    fn pieces_go_on_where_the_last_one_ended_whatever_became_of_that_place() {
        let mut names = names(&["", "/", "a", "a/b", "a/b/c", "a/d", "b/c", "c"]);
        let piece = |names: &TopicNames<usize>, filter: &str, after: Option<&str>, nodes: usize| {
            let filter = TopicFilter::parse(filter).unwrap();
            let mut found = Vec::new();
            let mut left = nodes;
            let end = names.matching_after(&filter, after, &mut left, &mut |topic, _| {
                found.push(topic.to_owned());
                if found.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            (found.join(" "), end.map(String::from), nodes - left)
        };
        let place = |text: &str| Some(text.to_owned());
        assert_eq!(piece(&names, "#", None, 9), (" /".to_owned(), place("/"), 2));
        assert_eq!(piece(&names, "#", Some("/"), 9), ("a a/b".to_owned(), place("a/b"), 2));
        assert_eq!(piece(&names, "#", Some("a/b"), 1), ("a/b/c".to_owned(), place("a/b/c"), 1));
        // What finds nothing ends as well, and goes on.
        assert_eq!(piece(&names, "+/c", None, 3), (String::new(), place("b"), 3));
        assert_eq!(piece(&names, "+/c", Some("b"), 9), ("b/c".to_owned(), None, 2));
        // One name below another is behind it, and a filter's own level before or behind a place.
        assert_eq!(piece(&names, "a/#", Some("a"), 9).0, "a/b a/b/c");
        assert_eq!(piece(&names, "b/+", Some("a/d"), 9).0, "b/c");
        assert_eq!(piece(&names, "b/+", Some("c"), 9), (String::new(), None, 0));
        assert_eq!(piece(&names, "a/b", Some("a/b"), 9), (String::new(), None, 0));
        for gone in ["a/b", "a/b/c"] {
            names.remove(gone);
        }
        assert_eq!(piece(&names, "#", Some("a/b/c"), 9).0, "a/d b/c");
        assert_eq!(piece(&names, "+/+", Some("a/b"), 9).0, "a/d b/c");
        // Without a look it stays where it was, also where nothing is any more.
        assert_eq!(piece(&names, "#", Some("a/b/c"), 0), (String::new(), place("a/b/c"), 0));
    }

    #[test]
    fn reserved_names_are_found_by_their_own_root_only() {
        // [MQTT-4.7.2-1]
        let names = names(&["$SYS", "$SYS/a", "a/$b"]);
        assert_eq!(found(&names, "$SYS/#"), ["$SYS", "$SYS/a"]);
        assert_eq!(found(&names, "$SYS/+"), ["$SYS/a"]);
        assert_eq!(found(&names, "+/a"), Vec::<&str>::new());
        assert_eq!(found(&names, "a/+"), ["a/$b"]);
        assert_eq!(found(&names, "#"), ["a/$b"]);
    }

    #[test]
    fn values_are_replaced_taken_and_counted() {
        let mut names = names(&["a/b", "a/b/c"]);
        assert_eq!((names.insert("a/b", 7), names.len()), (Some(0), 2));
        assert_eq!((names.get("a/b"), names.get("a"), names.get("a/c")), (Some(&7), None, None));
        assert_eq!((names.remove("a"), names.remove("x")), (None, None));
        assert_eq!((names.remove("a/b"), names.nodes()), (Some(7), 3));
        assert_eq!((names.remove("a/b/c"), names.nodes()), (Some(1), 0));
        assert!(names.is_empty());
    }

    #[test]
    fn hundred_thousand_names_that_come_and_go_leave_nothing() {
        let mut names = TopicNames::new();
        for round in 0..3 {
            for number in 0..100_000_u32 {
                let topic = format!("chat/{}/{number}", number % 1000);
                assert_eq!(names.insert(&topic, number), None, "round {round}");
            }
            assert_eq!(names.nodes(), 101_001);
            for number in 0..100_000_u32 {
                let topic = format!("chat/{}/{number}", number % 1000);
                assert_eq!(names.remove(&topic), Some(number));
            }
            assert_eq!(names.nodes(), 0);
            assert!(names.nodes.places() <= KEPT);
        }
    }

    #[test]
    fn names_of_32_768_levels_need_neither_stack_nor_quadratic_time() {
        let body = || {
            let topic = format!("{}a", "a/".repeat(32_767));
            let mut names = names(&[&topic, &topic[2..]]);
            assert_eq!(found(&names, &format!("{}+", "+/".repeat(32_767))), [&topic]);
            assert_eq!(found(&names, "a/#").len(), 2);
            assert_eq!(found(&names, &format!("{}#", "+/".repeat(32_766))).len(), 2);
            drop(names.clone());
            assert_eq!(names.remove(&topic), Some(0));
            assert_eq!(names.nodes(), 32_767);
        };
        let small_stack = std::thread::Builder::new().stack_size(128 * 1024);
        small_stack.spawn(body).unwrap().join().unwrap();
    }
}
