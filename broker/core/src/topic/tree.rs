//! Topic Filters to who subscribed to them: asked with the name of each message (§4.7).
//!
//! Two indexes. Filters without wildcards, in chat nearly all, are one hash map from the whole
//! text; filters with wildcards are a tree of levels, which a message need not enter while nobody
//! has subscribed with a wildcard. All edges of the tree share one table keyed by (node, level):
//! a node with ten thousand children and one with a single child cost the same lookup, and no node
//! owns a table.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};

use super::filter::TopicFilter;
use super::slab::{NodeId, Slab};
use super::small_map::SmallMap;

/// Filters and, for each, its subscribers: `K` tells them apart, `V` holds their options.
///
/// Without bounds of its own: subscriptions are bounded where they are made, and a filter costs at
/// most a node for each of its levels (see [`super::TopicLimits`]).
///
/// Shared subscriptions stand where their filter part stands, so `$share/a/x`, `$share/b/x` and
/// `x` are one place: a `K` that subscribes to several of them must say which it means.
#[derive(Debug, Clone)]
pub struct TopicTree<K, V> {
    exact: HashMap<Arc<str>, SmallMap<K, V>, FixedState>,
    wild: Levels<K, V>,
    len: usize,
}

impl<K: Ord, V> TopicTree<K, V> {
    /// An empty tree. The seed keeps clients from choosing levels that collide; the order of what
    /// is found does not depend on it.
    pub fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self { exact: HashMap::with_hasher(hasher), wild: Levels::new(hasher), len: 0 }
    }

    /// Subscribes `key` and returns the options it had on this filter before.
    pub fn insert(&mut self, filter: &TopicFilter, key: K, value: V) -> Option<V> {
        let replaced = if filter.has_wildcard() {
            self.wild.insert(filter.pattern(), key, value)
        } else if let Some(subscribers) = self.exact.get_mut(filter.pattern()) {
            subscribers.insert(key, value)
        } else {
            self.exact.insert(filter.pattern_text(), SmallMap::One(key, value));
            None
        };
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Unsubscribes `key` and returns the options it had, if it was subscribed.
    pub fn remove(&mut self, filter: &TopicFilter, key: &K) -> Option<V> {
        let removed = if filter.has_wildcard() {
            self.wild.remove(filter.pattern(), key)?
        } else {
            let subscribers = self.exact.get_mut(filter.pattern())?;
            let removed = subscribers.remove(key)?;
            if subscribers.is_empty() {
                self.exact.remove(filter.pattern());
                if let Some(capacity) = shrunk(self.exact.len(), self.exact.capacity()) {
                    self.exact.shrink_to(capacity);
                }
            }
            removed
        };
        self.len -= 1;
        Some(removed)
    }

    /// The options of `key` on exactly this filter.
    pub fn get(&self, filter: &TopicFilter, key: &K) -> Option<&V> {
        self.place(filter)?.get(key)
    }

    /// Calls `found` for every subscriber of every filter that matches, so once for each matching
    /// filter a subscriber has.
    ///
    /// The order is fixed: the filter that is the name itself, then filters with wildcards, an
    /// earlier level deciding first: `#`, then the level's text, then `+`; within a filter by key.
    /// Allocates nothing up to 32 levels, nor beyond unless filters branch at more than 32 of them.
    pub fn matching<'t>(&'t self, topic: &str, found: &mut impl FnMut(&'t K, &'t V)) {
        if let Some(subscribers) = self.exact.get(topic) {
            subscribers.iter().for_each(|(key, value)| found(key, value));
        }
        if self.wild.len > 0 {
            self.wild.matching(topic, found);
        }
    }

    /// How many keys are subscribed to exactly this filter.
    pub fn subscribers(&self, filter: &TopicFilter) -> usize {
        self.place(filter).map_or(0, SmallMap::len)
    }

    /// How many subscriptions there are: pairs of a filter and a key.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody is subscribed to anything.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the filters occupy, for metrics: one for each filter without wildcards, one for each
    /// level that filters with wildcards have. Zero when the tree is empty.
    pub fn nodes(&self) -> usize {
        self.exact.len() + self.wild.nodes.len() - 1
    }

    fn place(&self, filter: &TopicFilter) -> Option<&SmallMap<K, V>> {
        if filter.has_wildcard() {
            self.wild.place(filter.pattern())
        } else {
            self.exact.get(filter.pattern())
        }
    }
}

/// The filters with wildcards, level by level.
#[derive(Debug, Clone)]
struct Levels<K, V> {
    /// Never without the root, which stands for what comes before the first level.
    nodes: Slab<Node<K, V>>,
    /// Children by level, those by `+` excepted.
    edges: HashTable<Edge>,
    hasher: FixedState,
    /// How many subscriptions the nodes hold.
    len: usize,
}

#[derive(Debug, Clone)]
struct Node<K, V> {
    parent: NodeId,
    /// The child by `+`; the root, nobody's child, stands for none.
    plus: NodeId,
    /// How many edges leave from here: without any, there is nothing to hash for.
    edges: u32,
    /// Subscribers of the filter that ends with this level.
    here: SmallMap<K, V>,
    /// Subscribers of this filter and `/#`; at the root, of `#`.
    below: SmallMap<K, V>,
}

#[derive(Debug, Clone)]
struct Edge {
    parent: NodeId,
    child: NodeId,
    level: Box<[u8]>,
}

const ROOT: NodeId = 0;

impl<K: Ord, V> Levels<K, V> {
    fn new(hasher: FixedState) -> Self {
        let mut nodes = Slab::new();
        nodes.insert(Node::new(ROOT));
        Self { nodes, edges: HashTable::new(), hasher, len: 0 }
    }

    fn insert(&mut self, pattern: &str, key: K, value: V) -> Option<V> {
        let (path, multi) = split_multi(pattern);
        let mut at = ROOT;
        for level in levels(path) {
            at = match self.child(at, level) {
                Some(child) => child,
                None => self.add_child(at, level),
            };
        }
        let replaced = self.nodes.get_mut(at)?.place_mut(multi).insert(key, value);
        self.len += usize::from(replaced.is_none());
        replaced
    }

    fn remove(&mut self, pattern: &str, key: &K) -> Option<V> {
        let (path, multi) = split_multi(pattern);
        let at = self.find(path)?;
        let removed = self.nodes.get_mut(at)?.place_mut(multi).remove(key)?;
        self.len -= 1;
        self.prune(at, path);
        Some(removed)
    }

    fn place(&self, pattern: &str) -> Option<&SmallMap<K, V>> {
        let (path, multi) = split_multi(pattern);
        let node = self.nodes.get(self.find(path)?)?;
        Some(if multi { &node.below } else { &node.here })
    }

    fn matching<'t>(&'t self, topic: &str, found: &mut impl FnMut(&'t K, &'t V)) {
        let mut pending = Pending::new();
        let mut at = ROOT;
        let mut offset: u32 = 0;
        // As bytes: where a level ends is where a character does.
        let topic = topic.as_bytes();
        // [MQTT-4.7.2-1]: at the root only; what is pending is always below it.
        let mut reserved = topic.starts_with(b"$");
        loop {
            if let Some(node) = self.nodes.get(at) {
                if !reserved {
                    node.below.iter().for_each(|(key, value)| found(key, value));
                }
                // An offset past the end means that no level is left; at the end, an empty one.
                match topic.get(offset as usize..) {
                    None => node.here.iter().for_each(|(key, value)| found(key, value)),
                    Some(rest) => {
                        let level = first_level(rest);
                        // A topic has at most 65,535 bytes: no more is ever passed.
                        let passed = u32::try_from(level.len()).unwrap_or(u32::MAX);
                        offset = offset.saturating_add(passed).saturating_add(1);
                        let plus = if reserved { ROOT } else { node.plus };
                        reserved = false;
                        let child = if node.edges > 0 { self.edge(at, level) } else { None };
                        match child {
                            Some(child) => {
                                if plus != ROOT {
                                    pending.push((plus, offset));
                                }
                                at = child;
                                continue;
                            }
                            None if plus != ROOT => {
                                at = plus;
                                continue;
                            }
                            None => {}
                        }
                    }
                }
            }
            match pending.pop() {
                Some(next) => (at, offset) = next,
                None => return,
            }
        }
    }

    fn find(&self, path: Option<&str>) -> Option<NodeId> {
        levels(path).try_fold(ROOT, |at, level| self.child(at, level))
    }

    fn child(&self, parent: NodeId, level: &[u8]) -> Option<NodeId> {
        if level == b"+" {
            let plus = self.nodes.get(parent)?.plus;
            return (plus != ROOT).then_some(plus);
        }
        self.edge(parent, level)
    }

    fn edge(&self, parent: NodeId, level: &[u8]) -> Option<NodeId> {
        let hash = hash(&self.hasher, parent, level);
        let edge = self.edges.find(hash, |edge| edge.is(parent, level))?;
        Some(edge.child)
    }

    fn add_child(&mut self, parent: NodeId, level: &[u8]) -> NodeId {
        let child = self.nodes.insert(Node::new(parent));
        let Some(node) = self.nodes.get_mut(parent) else { return child };
        if level == b"+" {
            node.plus = child;
        } else {
            node.edges += 1;
            let hash = hash(&self.hasher, parent, level);
            let edge = Edge { parent, child, level: level.into() };
            self.edges.insert_unique(hash, edge, |edge| edge.hash(&self.hasher));
        }
        child
    }

    /// Removes the node and those above it that no filter needs any more.
    fn prune(&mut self, mut at: NodeId, path: Option<&str>) {
        for level in path.into_iter().flat_map(|path| path.as_bytes().rsplit(|byte| *byte == b'/'))
        {
            if !self.nodes.get(at).is_some_and(Node::is_unused) {
                break;
            }
            let Some(node) = self.nodes.remove(at) else { break };
            let parent = node.parent;
            if let Some(above) = self.nodes.get_mut(parent) {
                if level == b"+" {
                    above.plus = ROOT;
                } else {
                    above.edges -= 1;
                    let hash = hash(&self.hasher, parent, level);
                    if let Ok(edge) = self.edges.find_entry(hash, |edge| edge.is(parent, level)) {
                        edge.remove();
                    }
                }
            }
            at = parent;
        }
        if let Some(capacity) = shrunk(self.edges.len(), self.edges.capacity()) {
            self.edges.shrink_to(capacity, |edge| edge.hash(&self.hasher));
        }
        // Free places stay for later filters, unless there are many and nothing else.
        if self.len == 0 && self.nodes.places() > KEPT {
            *self = Self::new(self.hasher);
        }
    }
}

impl<K: Ord, V> Node<K, V> {
    const fn new(parent: NodeId) -> Self {
        Self { parent, plus: ROOT, edges: 0, here: SmallMap::Empty, below: SmallMap::Empty }
    }

    const fn is_unused(&self) -> bool {
        self.plus == ROOT && self.edges == 0 && self.here.is_empty() && self.below.is_empty()
    }

    const fn place_mut(&mut self, multi: bool) -> &mut SmallMap<K, V> {
        if multi { &mut self.below } else { &mut self.here }
    }
}

impl Edge {
    fn is(&self, parent: NodeId, level: &[u8]) -> bool {
        self.parent == parent && *self.level == *level
    }

    fn hash(&self, hasher: &FixedState) -> u64 {
        hash(hasher, self.parent, &self.level)
    }
}

/// Places to go on from: a stack that lies on the thread's stack up to the usual depth.
struct Pending {
    near: [(NodeId, u32); PENDING_NEAR],
    near_len: usize,
    far: Vec<(NodeId, u32)>,
}

/// One place per level can be pending, and 32 levels are the default bound of a topic.
const PENDING_NEAR: usize = 32;

impl Pending {
    const fn new() -> Self {
        Self { near: [(ROOT, 0); PENDING_NEAR], near_len: 0, far: Vec::new() }
    }

    fn push(&mut self, next: (NodeId, u32)) {
        match self.near.get_mut(self.near_len) {
            Some(place) => {
                *place = next;
                self.near_len += 1;
            }
            None => self.far.push(next),
        }
    }

    fn pop(&mut self) -> Option<(NodeId, u32)> {
        if let Some(next) = self.far.pop() {
            return Some(next);
        }
        self.near_len = self.near_len.checked_sub(1)?;
        self.near.get(self.near_len).copied()
    }
}

/// What comes before the `#`, and whether there is one. Nothing comes before a lone `#`.
fn split_multi(pattern: &str) -> (Option<&str>, bool) {
    match pattern.strip_suffix('#') {
        Some(path) => (path.strip_suffix('/'), true),
        None => (Some(pattern), false),
    }
}

fn levels(path: Option<&str>) -> impl Iterator<Item = &[u8]> {
    path.into_iter().flat_map(|path| path.as_bytes().split(|byte| *byte == b'/'))
}

/// Where an edge is in the table. The text's length need not count: edges are compared.
fn hash(hasher: &FixedState, parent: NodeId, level: &[u8]) -> u64 {
    let mut hash = hasher.build_hasher();
    hash.write_u32(parent);
    hash.write(level);
    hash.finish()
}

/// Everything before the first separator.
fn first_level(rest: &[u8]) -> &[u8] {
    rest.iter().position(|byte| *byte == b'/').and_then(|end| rest.get(..end)).unwrap_or(rest)
}

/// The capacity to go down to, once a table is nearly empty. Twice what it holds, so that it does
/// not grow again at once.
fn shrunk(len: usize, capacity: usize) -> Option<usize> {
    (capacity > KEPT && len < capacity / 8).then_some(len * 2)
}

/// Places that are kept even if nothing uses them: giving back less is not worth the work.
const KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    /// A tree in which the n-th filter has the subscriber n.
    fn tree(filters: &[&str]) -> TopicTree<usize, ()> {
        let mut tree = TopicTree::new(7);
        for (key, text) in filters.iter().enumerate() {
            assert_eq!(tree.insert(&filter(text), key, ()), None);
        }
        tree
    }

    fn found(tree: &TopicTree<usize, ()>, topic: &str) -> Vec<usize> {
        let mut found = Vec::new();
        tree.matching(topic, &mut |key, ()| found.push(*key));
        found
    }

    #[test]
    fn exact_filter_comes_first_then_multi_level_text_and_single_level() {
        let tree = tree(&["+/b", "a/+", "a/b", "#", "a/#", "+/#", "a/b/#", "+/+", "b", "a/b/+"]);
        assert_eq!(found(&tree, "a/b"), [2, 3, 4, 6, 1, 5, 0, 7]);
        assert_eq!(found(&tree, "b"), [8, 3, 5]);
    }

    #[test]
    fn leading_wildcard_does_not_match_reserved_topics() {
        // [MQTT-4.7.2-1]
        let tree = tree(&["#", "+/a", "+/#", "$SYS/#", "$SYS/+", "$SYS/a"]);
        assert_eq!(found(&tree, "$SYS/a"), [5, 3, 4]);
        assert_eq!(found(&tree, "$SYS"), [3]);
        assert_eq!(found(&tree, "x/$a"), [0, 2]);
    }

    #[test]
    fn empty_levels_are_levels() {
        // §4.7.1.1
        let tree = tree(&["/a", "+/a", "a//b", "a/+/b", "a/+", "a/"]);
        assert_eq!(found(&tree, "/a"), [0, 1]);
        assert_eq!(found(&tree, "a//b"), [2, 3]);
        assert_eq!(found(&tree, "a/"), [5, 4]);
        assert_eq!(found(&tree, "a"), Vec::<usize>::new());
    }

    #[test]
    fn subscribers_of_one_filter_are_replaced_counted_and_found_by_key() {
        for text in ["chat/bob/inbox", "chat/+/inbox", "chat/#"] {
            let mut tree = TopicTree::new(7);
            let filter = filter(text);
            for key in [3, 1, 2] {
                assert_eq!(tree.insert(&filter, key, 'a'), None);
            }
            assert_eq!(tree.insert(&filter, 3, 'b'), Some('a'));
            assert_eq!((tree.subscribers(&filter), tree.len()), (3, 3));
            let mut found = Vec::new();
            tree.matching("chat/bob/inbox", &mut |key, value| found.push((*key, *value)));
            assert_eq!(found, [(1, 'a'), (2, 'a'), (3, 'b')]);
            assert_eq!((tree.get(&filter, &3), tree.get(&filter, &4)), (Some(&'b'), None));
            assert_eq!(tree.remove(&filter, &4), None);
            assert_eq!(tree.remove(&filter, &1), Some('a'));
            assert_eq!((tree.subscribers(&filter), tree.len()), (2, 2));
        }
    }

    #[test]
    fn shared_subscription_stands_where_its_filter_part_stands() {
        let tree = tree(&["$share/g/a/+", "$share/g/a/b", "a/b", "$share/h/#"]);
        assert_eq!(found(&tree, "a/b"), [1, 2, 3, 0]);
        assert_eq!(tree.subscribers(&filter("a/b")), 2);
        assert_eq!(found(&tree, "$share/g/a/b"), Vec::<usize>::new());
    }

    #[test]
    fn removal_leaves_the_nodes_that_others_need_and_no_more() {
        let mut tree = tree(&["a/+/c/d", "a/+", "a/+/c/#", "x"]);
        assert_eq!(tree.nodes(), 5);
        assert_eq!(tree.remove(&filter("a/+/c/d"), &0), Some(()));
        assert_eq!(tree.nodes(), 4);
        assert_eq!(tree.remove(&filter("a/+"), &1), Some(()));
        assert_eq!((tree.nodes(), found(&tree, "a/b/c")), (4, vec![2]));
        // Nodes that exist without being filters.
        assert_eq!(tree.remove(&filter("a/+/+"), &2), None);
        assert_eq!(tree.remove(&filter("a/#"), &2), None);
        assert_eq!(tree.remove(&filter("a/+/c/#"), &2), Some(()));
        assert_eq!((tree.nodes(), tree.wild.edges.len()), (1, 0));
        assert_eq!(tree.remove(&filter("x"), &3), Some(()));
        assert_eq!((tree.nodes(), tree.is_empty()), (0, true));
    }

    #[test]
    fn million_random_filters_that_come_and_go_leave_nothing() {
        let mut tree = TopicTree::new(7);
        let mut live = VecDeque::new();
        let mut nodes_most = 0;
        let mut random: u64 = 1;
        for key in 0..1_000_000_u32 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let (a, b) = (random % 1000, random >> 40);
            let text = match random >> 20 & 3 {
                0 => format!("c/{a}/{b}"),
                1 => format!("c/{a}/+/{b}"),
                2 => format!("+/{a}/{b}/#"),
                _ => format!("c/{b}/+"),
            };
            let filter = filter(&text);
            assert_eq!(tree.insert(&filter, key, key), None);
            live.push_back((filter, key));
            nodes_most = nodes_most.max(tree.wild.nodes.len());
            if live.len() > 4096 {
                let (filter, key) = live.pop_front().unwrap();
                assert_eq!(tree.remove(&filter, &key), Some(key));
            }
        }
        assert_eq!(tree.len(), 4096);
        assert!(tree.wild.nodes.places() <= nodes_most, "places are not used again");
        assert!(tree.wild.edges.capacity() <= nodes_most * 2);
        for (filter, key) in live {
            assert_eq!(tree.remove(&filter, &key), Some(key));
        }
        assert_eq!((tree.nodes(), tree.wild.edges.len()), (0, 0));
        assert!(tree.wild.nodes.places() <= KEPT);
        assert!(tree.wild.edges.capacity() <= KEPT * 2 && tree.exact.capacity() <= KEPT * 2);
    }

    #[test]
    fn tables_shrink_when_most_filters_go_even_if_one_stays() {
        let mut tree = tree(&["keep/+"]);
        let filters: Vec<TopicFilter> =
            (0..20_000).map(|at| filter(&format!("keep/{}/{at}", ["a", "+"][at % 2]))).collect();
        for filter in &filters {
            assert_eq!(tree.insert(filter, 1, ()), None);
        }
        for filter in &filters {
            assert_eq!(tree.remove(filter, &1), Some(()));
        }
        assert!(tree.wild.edges.capacity() <= KEPT * 2 && tree.exact.capacity() <= KEPT * 2);
        assert_eq!((tree.nodes(), found(&tree, "keep/a")), (2, vec![0]));
    }

    #[test]
    fn usual_depth_needs_no_heap_to_wait_on() {
        let mut pending = Pending::new();
        for depth in 0..40 {
            pending.push((depth, 0));
            assert_eq!(pending.far.capacity() > 0, depth >= 32, "at depth {depth}");
        }
        let popped: Vec<NodeId> = std::iter::from_fn(|| pending.pop()).map(|(at, _)| at).collect();
        assert_eq!(popped, (0..40).rev().collect::<Vec<_>>());
    }

    #[test]
    fn topics_of_32_768_levels_need_neither_stack_nor_quadratic_time() {
        let body = || {
            let topic = format!("{}a", "a/".repeat(32_767));
            let plus = format!("{}+", "+/".repeat(32_767));
            let last = format!("{}+", "a/".repeat(32_767));
            let multi = format!("{}#", "a/".repeat(32_766));
            // Branches at every six hundredth level, so that much is pending.
            let forks: Vec<String> = (1..50)
                .map(|fork| {
                    format!("{}+/{}a", "a/".repeat(fork * 600), "a/".repeat(32_766 - fork * 600))
                })
                .collect();
            let mut filters = vec![topic.as_str(), &plus, &last, &multi];
            filters.extend(forks.iter().map(String::as_str));
            let mut tree = tree(&filters);
            let mut all = found(&tree, &topic);
            all.sort_unstable();
            assert_eq!(all, (0..filters.len()).collect::<Vec<_>>());
            assert_eq!(found(&tree, &format!("{topic}/a")), [3]);
            drop(tree.clone());
            for (key, text) in filters.iter().enumerate() {
                assert_eq!(tree.remove(&filter(text), &key), Some(()));
            }
            assert_eq!(tree.nodes(), 0);
        };
        let small_stack = std::thread::Builder::new().stack_size(128 * 1024);
        small_stack.spawn(body).unwrap().join().unwrap();
    }
}
