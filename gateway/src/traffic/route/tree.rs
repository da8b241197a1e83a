//! Exact paths and prefixes, by segment: one walk down from the root finds the exact path, if
//! there is one, and the longest prefix; shorter prefixes follow from there. A step is a binary
//! search among the segments that follow, so a domain with hundreds of routes costs little more
//! than one with a few, and one whose only route takes everything costs nothing.
//!
//! Must not: compare anything but whole segments, or recurse: paths may be long.

use std::collections::{BTreeMap, VecDeque};

/// A tree of segments. What lies at a path are numbers that mean something to whoever built it.
#[derive(Debug, Default)]
pub(super) struct PathTree {
    /// The root first, the children of one node side by side and in order.
    nodes: Box<[Node]>,
    labels: Box<[u8]>,
    members: Box<[u32]>,
}

/// What follows one segment.
#[derive(Debug, Clone, Copy, Default)]
struct Node {
    label: Run,
    children: Run,
    /// What wants the path to end here.
    exact: Run,
    /// What takes everything from here on.
    prefix: Run,
    /// The nearest node above with a prefix; the root for none.
    above: u32,
}

/// Elements of a list, from one to before another.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    start: u32,
    end: u32,
}

impl Run {
    fn of<T>(self, list: &[T]) -> &[T] {
        list.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// Where a path leads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk<'t> {
    tree: &'t PathTree,
    /// What lies exactly there, in the order in which it was added.
    pub(super) exact: &'t [u32],
    nearest: u32,
}

impl PathTree {
    /// Follows a path. One that does not begin with a slash has no segments.
    #[inline]
    pub(super) fn walk(&self, path: &[u8]) -> Walk<'_> {
        let mut walk = Walk {
            tree: self,
            exact: &[],
            nearest: 0,
        };
        let (Some(mut node), [b'/', relative @ ..]) = (self.nodes.first(), path) else {
            return walk;
        };
        for segment in relative.split(|&byte| byte == b'/') {
            let Some(at) = self.child(node, segment) else {
                return walk;
            };
            let Some(child) = self.nodes.get(at as usize) else {
                return walk;
            };
            node = child;
            if node.prefix.start < node.prefix.end {
                walk.nearest = at;
            }
        }
        walk.exact = node.exact.of(&self.members);
        walk
    }

    #[inline]
    fn child(&self, node: &Node, segment: &[u8]) -> Option<u32> {
        let children = node.children.of(&self.nodes);
        let at = children
            .binary_search_by(|child| child.label.of(&self.labels).cmp(segment))
            .ok()?;
        Some(node.children.start + index(at))
    }
}

impl<'t> Walk<'t> {
    /// What takes the path by a prefix, the longest prefix first, then in the order in which it
    /// was added.
    #[inline]
    pub(super) fn prefixes(self) -> impl Iterator<Item = u32> + 't {
        let nodes = &self.tree.nodes;
        let nearest = nodes
            .get(self.nearest as usize)
            .map(|node| (self.nearest, node));
        let up = move |&(at, node): &(u32, &'t Node)| {
            let above = nodes.get(node.above as usize)?;
            // Only the root has nothing above it.
            (at != 0).then_some((node.above, above))
        };
        std::iter::successors(nearest, up)
            .flat_map(move |(_, node)| node.prefix.of(&self.tree.members).iter().copied())
    }
}

/// A tree that grows.
#[derive(Debug)]
pub(super) struct Growing {
    nodes: Vec<GrowingNode>,
}

#[derive(Debug, Default)]
struct GrowingNode {
    label: Box<[u8]>,
    children: BTreeMap<Box<[u8]>, usize>,
    exact: Vec<u32>,
    prefix: Vec<u32>,
}

impl Growing {
    /// A tree without anything in it.
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![GrowingNode::default()],
        }
    }

    /// Adds what wants exactly this path, which begins with a slash.
    pub(super) fn add_exact(&mut self, path: &[u8], member: u32) {
        self.node(path).exact.push(member);
    }

    /// Adds what takes everything below this path, which begins with a slash and does not end in
    /// one; the empty path is the root.
    pub(super) fn add_prefix(&mut self, path: &[u8], member: u32) {
        self.node(path).prefix.push(member);
    }

    fn node(&mut self, path: &[u8]) -> &mut GrowingNode {
        let mut at = 0;
        // What comes before the first slash is nothing.
        for segment in path.split(|&byte| byte == b'/').skip(1) {
            let next = self.nodes.len();
            let node = &mut self.nodes[at];
            at = *node.children.entry(segment.into()).or_insert(next);
            if at == next {
                self.nodes.push(GrowingNode {
                    label: segment.into(),
                    ..GrowingNode::default()
                });
            }
        }
        &mut self.nodes[at]
    }

    /// The tree, laid out for walking: breadth first, so that children lie side by side.
    pub(super) fn finish(self) -> PathTree {
        let mut nodes = vec![Node::default()];
        let (mut labels, mut members) = (Vec::new(), Vec::new());
        let mut waiting = VecDeque::from([(0, 0)]);
        while let Some((grown, at)) = waiting.pop_front() {
            let grown = &self.nodes[grown];
            let above = nodes[at].above;
            let first_child = nodes.len();
            let prefix = append(&mut members, &grown.prefix);
            for child in grown.children.values() {
                waiting.push_back((*child, nodes.len()));
                nodes.push(Node {
                    above: if grown.prefix.is_empty() {
                        above
                    } else {
                        index(at)
                    },
                    ..Node::default()
                });
            }
            nodes[at] = Node {
                label: append(&mut labels, &grown.label),
                children: Run {
                    start: index(first_child),
                    end: index(nodes.len()),
                },
                exact: append(&mut members, &grown.exact),
                prefix,
                above,
            };
        }
        PathTree {
            nodes: nodes.into(),
            labels: labels.into(),
            members: members.into(),
        }
    }
}

fn append<T: Copy>(list: &mut Vec<T>, elements: &[T]) -> Run {
    let start = index(list.len());
    list.extend_from_slice(elements);
    Run {
        start,
        end: index(list.len()),
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a domain's routes are far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(exact: &[&str], prefixes: &[&str]) -> PathTree {
        let mut growing = Growing::new();
        for (member, path) in (0..).zip(exact) {
            growing.add_exact(path.as_bytes(), member);
        }
        for (member, path) in (100..).zip(prefixes) {
            growing.add_prefix(path.as_bytes(), member);
        }
        growing.finish()
    }

    #[test]
    fn walks_end_at_paths_and_pass_prefixes() {
        let tree = tree(
            &["/", "/a", "/a/", "/a/b/c", "/a"],
            &["", "/a", "/a/b/c", "/a", "/b/c/d"],
        );
        let check = |path: &str, exact: &[u32], prefixes: &[u32]| {
            let walk = tree.walk(path.as_bytes());
            assert_eq!(walk.exact, exact, "{path}");
            assert_eq!(walk.prefixes().collect::<Vec<_>>(), prefixes, "{path}");
        };
        check("/", &[0], &[100]);
        check("/a", &[1, 4], &[101, 103, 100]);
        check("/a/", &[2], &[101, 103, 100]);
        check("/a/b", &[], &[101, 103, 100]);
        check("/a/b/c", &[3], &[102, 101, 103, 100]);
        check("/a/b/c/", &[], &[102, 101, 103, 100]);
        check("/a/b/c/d/e", &[], &[102, 101, 103, 100]);
        check("/ab", &[], &[100]);
        check("/b/c", &[], &[100]);
        check("/b/c/d", &[], &[104, 100]);
        check("//a", &[], &[100]);
        check("*", &[], &[100]);
        check("", &[], &[100]);
    }

    #[test]
    fn a_tree_without_a_root_prefix_takes_only_what_it_holds() {
        let tree = tree(&["/x"], &["/a/b"]);
        let check = |path: &str, expected: &[u32]| {
            let walk = tree.walk(path.as_bytes());
            let found: Vec<u32> = walk.exact.iter().copied().chain(walk.prefixes()).collect();
            assert_eq!(found, expected, "{path}");
        };
        check("/", &[]);
        check("/x", &[0]);
        check("/x/", &[]);
        check("/a", &[]);
        check("/a/b", &[100]);
        check("/a/b/c", &[100]);
        let nothing = PathTree::default();
        assert_eq!(nothing.walk(b"/").prefixes().count(), 0);
    }

    #[test]
    fn long_paths_are_no_trouble() {
        let path = "/a".repeat(100_000);
        let tree = tree(&[&path], &[&path]);
        assert_eq!(tree.walk(path.as_bytes()).exact, &[0]);
    }
}
