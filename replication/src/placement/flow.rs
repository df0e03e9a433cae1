//! A flow of least cost through a network: the one algorithm that decides who holds what.
//!
//! Why in this form: the costs here are 0 and 1 and nearly all capacities are 1, so the primal-dual method has few price levels (one for each
//! different length of a cheapest path, in practice two or three) and inside a level only a maximum flow is left to find, for which the blocking flows
//! of Dinic (1970) are fast on unit networks (Even and Tarjan, 1975). Prices are the potentials of Edmonds and Karp (1972); they keep every
//! remaining cost at 0 or above, so that the cheapest paths come from a queue of buckets.
//!
//! Promises: (1) the flow is a maximum one, and of least cost among those; (2) the same edges in the same order give the same flow.
//! Left out: negative costs, which nobody here has.

use std::cmp::min;

/// A level of a vertex that no path reaches.
const UNREACHED: u32 = u32::MAX;

/// A network under construction, then with a flow in it.
pub(super) struct Network {
    vertex_count: usize,
    /// Edge `2 i` is the i-th that was added, edge `2 i + 1` takes its flow back.
    heads: Vec<u32>,
    /// What more an edge can carry.
    room: Vec<u32>,
    /// Of the edges that were added.
    costs: Vec<i8>,
    /// Edges by the vertex that they leave: `starts[v]..starts[v + 1]` of `leaving`.
    starts: Vec<u32>,
    leaving: Vec<u32>,
    prices: Vec<i32>,
    levels: Vec<u32>,
    /// The next edge to try of each vertex.
    cursors: Vec<u32>,
}

impl Network {
    pub(super) fn new(vertex_count: usize) -> Network {
        Network {
            vertex_count,
            heads: Vec::new(),
            room: Vec::new(),
            costs: Vec::new(),
            starts: Vec::new(),
            leaving: Vec::new(),
            prices: Vec::new(),
            levels: Vec::new(),
            cursors: Vec::new(),
        }
    }

    /// Adds an edge and returns its number. One of capacity 0 is no edge, but has a number.
    pub(super) fn edge(&mut self, tail: usize, head: usize, capacity: u32, cost: i8) -> usize {
        debug_assert!(cost >= 0 && tail < self.vertex_count && head < self.vertex_count);
        self.heads.push(head as u32);
        self.heads.push(tail as u32);
        self.room.push(capacity);
        self.room.push(0);
        self.costs.push(cost);
        self.costs.len() - 1
    }

    /// What an edge carries.
    pub(super) fn carried(&self, edge: usize) -> u32 {
        self.room[2 * edge + 1]
    }

    /// Sends as much as possible from `source` to `sink` at the least cost and returns how much that was.
    pub(super) fn run(&mut self, source: usize, sink: usize) -> u64 {
        self.index();
        self.prices = vec![0; self.vertex_count];
        self.levels = vec![UNREACHED; self.vertex_count];
        let mut sent = 0;
        while self.reprice(source, sink) {
            while self.relevel(source, sink) {
                sent += self.block(source, sink);
            }
        }
        sent
    }

    /// Sorts the edges by the vertex that they leave, each vertex's in the order in which they were added.
    fn index(&mut self) {
        let mut starts = vec![0u32; self.vertex_count + 1];
        let tail = |edge: usize| self.heads[edge ^ 1] as usize;
        for edge in 0..self.heads.len() {
            starts[tail(edge) + 1] += 1;
        }
        for vertex in 0..self.vertex_count {
            starts[vertex + 1] += starts[vertex];
        }
        let mut next = starts.clone();
        let mut leaving = vec![0u32; self.heads.len()];
        for edge in 0..self.heads.len() {
            let slot = &mut next[tail(edge)];
            leaving[*slot as usize] = edge as u32;
            *slot += 1;
        }
        (self.starts, self.leaving) = (starts, leaving);
    }

    fn edges_of(&self, vertex: usize) -> &[u32] {
        &self.leaving[self.starts[vertex] as usize..self.starts[vertex + 1] as usize]
    }

    /// The cost of an edge beyond the difference of its ends' prices: never negative where there is room.
    #[inline]
    fn reduced_cost(&self, tail: usize, edge: usize) -> i32 {
        let cost = i32::from(self.costs[edge / 2]);
        let cost = if edge & 1 == 0 { cost } else { -cost };
        cost + self.prices[tail] - self.prices[self.heads[edge] as usize]
    }

    /// Raises the prices until the cheapest paths to the sink cost nothing. False where there is no path.
    fn reprice(&mut self, source: usize, sink: usize) -> bool {
        let mut distances = vec![i32::MAX; self.vertex_count];
        let mut buckets = vec![vec![source as u32]];
        distances[source] = 0;
        let mut distance = 0;
        while distance < buckets.len() && distances[sink] > distance as i32 {
            while let Some(vertex) = buckets[distance].pop() {
                let vertex = vertex as usize;
                if distances[vertex] != distance as i32 {
                    continue;
                }
                for &edge in self.edges_of(vertex) {
                    let edge = edge as usize;
                    let head = self.heads[edge] as usize;
                    if self.room[edge] == 0 {
                        continue;
                    }
                    let reduced = self.reduced_cost(vertex, edge);
                    debug_assert!(reduced >= 0, "prices keep costs at 0 or above");
                    let through = distance as i32 + reduced;
                    if through < distances[head] {
                        distances[head] = through;
                        let bucket = through as usize;
                        if buckets.len() <= bucket {
                            buckets.resize(bucket + 1, Vec::new());
                        }
                        buckets[bucket].push(head as u32);
                    }
                }
            }
            distance += 1;
        }
        let reached = distances[sink];
        if reached == i32::MAX {
            return false;
        }
        for (price, distance) in self.prices.iter_mut().zip(distances) {
            *price += min(distance, reached);
        }
        true
    }

    /// Counts the edges from the source over those that cost nothing. False where they do not lead to the sink.
    fn relevel(&mut self, source: usize, sink: usize) -> bool {
        self.levels.fill(UNREACHED);
        self.levels[source] = 0;
        let mut queue = Vec::with_capacity(self.vertex_count);
        queue.push(source as u32);
        let mut at = 0;
        while at < queue.len() && self.levels[sink] == UNREACHED {
            let vertex = queue[at] as usize;
            at += 1;
            for slot in self.starts[vertex]..self.starts[vertex + 1] {
                let edge = self.leaving[slot as usize] as usize;
                let head = self.heads[edge] as usize;
                if self.room[edge] > 0
                    && self.levels[head] == UNREACHED
                    && self.reduced_cost(vertex, edge) == 0
                {
                    self.levels[head] = self.levels[vertex] + 1;
                    queue.push(head as u32);
                }
            }
        }
        self.levels[sink] != UNREACHED
    }

    /// Sends flow along paths of rising levels until each of them has a full edge.
    fn block(&mut self, source: usize, sink: usize) -> u64 {
        self.cursors.clear();
        self.cursors.extend_from_slice(&self.starts[..self.vertex_count]);
        let mut sent = 0;
        let mut path: Vec<u32> = Vec::new();
        let mut vertex = source;
        loop {
            if vertex == sink {
                sent += self.fill(&mut path);
                vertex = path.last().map_or(source, |&edge| self.heads[edge as usize] as usize);
                continue;
            }
            if let Some(edge) = self.advance(vertex) {
                path.push(edge);
                vertex = self.heads[edge as usize] as usize;
                continue;
            }
            // A dead end: nobody comes here again in this round.
            self.levels[vertex] = UNREACHED;
            match path.pop() {
                Some(edge) => vertex = self.heads[edge as usize ^ 1] as usize,
                None => return sent,
            }
        }
    }

    /// The next edge of `vertex` that goes up one level, costs nothing and has room.
    fn advance(&mut self, vertex: usize) -> Option<u32> {
        while self.cursors[vertex] < self.starts[vertex + 1] {
            let edge = self.leaving[self.cursors[vertex] as usize];
            let head = self.heads[edge as usize] as usize;
            if self.room[edge as usize] > 0
                && self.levels[head] != UNREACHED
                && self.levels[head] == self.levels[vertex] + 1
                && self.reduced_cost(vertex, edge as usize) == 0
            {
                return Some(edge);
            }
            self.cursors[vertex] += 1;
        }
        None
    }

    /// Fills a whole path and cuts it back to before its first full edge.
    fn fill(&mut self, path: &mut Vec<u32>) -> u64 {
        let amount = path.iter().map(|&edge| self.room[edge as usize]).min().unwrap_or(0);
        let mut whole = path.len();
        for (index, &edge) in path.iter().enumerate().rev() {
            self.room[edge as usize] -= amount;
            self.room[edge as usize ^ 1] += amount;
            if self.room[edge as usize] == 0 {
                whole = index;
            }
        }
        path.truncate(whole);
        u64::from(amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most that can be sent and its least cost, by trying every flow.
    fn by_trying(edges: &[(usize, usize, u32, i8)], vertices: usize) -> (i64, i64) {
        let mut best = (0, 0);
        let mut flow = vec![0u32; edges.len()];
        loop {
            let mut balance = vec![0i64; vertices];
            let mut cost = 0;
            for (&(tail, head, _, price), &amount) in edges.iter().zip(&flow) {
                balance[tail] -= i64::from(amount);
                balance[head] += i64::from(amount);
                cost += i64::from(price) * i64::from(amount);
            }
            let sent = balance[vertices - 1];
            let kept = balance[1..vertices - 1].iter().all(|&b| b == 0);
            if kept && (sent > best.0 || (sent == best.0 && cost < best.1)) {
                best = (sent, cost);
            }
            let mut digit = 0;
            loop {
                if digit == edges.len() {
                    return best;
                }
                flow[digit] += 1;
                if flow[digit] <= edges[digit].2 {
                    break;
                }
                flow[digit] = 0;
                digit += 1;
            }
        }
    }

    #[test]
    fn a_flow_is_never_smaller_or_dearer_than_the_best_one() {
        // Promise: maximum, and of least cost.
        let mut state = 7u64;
        let mut draw = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut moved = 0;
        for _ in 0..1000 {
            let vertices = 4 + draw(3) as usize;
            let edges: Vec<_> = (0..11)
                .map(|_| {
                    let tail = draw(vertices as u64 - 1) as usize;
                    let head = 1 + draw(vertices as u64 - 1) as usize;
                    (tail, head, 1 + u32::from(draw(8) == 0), draw(3) as i8)
                })
                .filter(|(tail, head, ..)| tail != head)
                .collect();
            let mut network = Network::new(vertices);
            for &(tail, head, capacity, cost) in &edges {
                network.edge(tail, head, capacity, cost);
            }
            let sent = network.run(0, vertices - 1) as i64;
            let cost = edges.iter().enumerate();
            let cost: i64 = cost.map(|(i, e)| i64::from(e.3) * i64::from(network.carried(i))).sum();
            assert_eq!((sent, cost), by_trying(&edges, vertices), "{edges:?}");
            moved += sent;
        }
        assert!(moved > 200, "the networks carry something");
    }
}
