//! What a program is generated from: a sequence of choices. Every sequence gives a program, the
//! empty one the smallest; so whatever shrinks the sequence shrinks the program.

/// A sequence of choices, either random or given; 0 after its end.
#[derive(Clone, Debug)]
pub struct Choices {
    source: Source,
    taken: Vec<u32>,
}

#[derive(Clone, Debug)]
enum Source {
    Random(SplitMix),
    Given(Vec<u32>),
}

impl Choices {
    /// The random sequence of a seed.
    pub fn random(seed: u64) -> Self {
        Self { source: Source::Random(SplitMix(seed)), taken: Vec::new() }
    }

    /// This sequence.
    pub fn given(sequence: &[u32]) -> Self {
        Self { source: Source::Given(sequence.to_vec()), taken: Vec::new() }
    }

    /// A number below `bound`. The smaller, the simpler should be what it stands for.
    pub fn below(&mut self, bound: usize) -> usize {
        let raw = match &mut self.source {
            Source::Random(random) => (random.next() >> 32) as u32,
            Source::Given(sequence) => sequence.get(self.taken.len()).copied().unwrap_or(0),
        };
        let choice = raw % u32::try_from(bound).expect("a small number of choices");
        self.taken.push(choice);
        choice as usize
    }

    /// Whether something happens that does in `likely` of `of` cases, and not when shrunk.
    pub fn chance(&mut self, likely: usize, of: usize) -> bool {
        self.below(of) >= of - likely
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// The choices made so far: given, they make the same again.
    pub fn taken(self) -> Vec<u32> {
        self.taken
    }
}

/// A random number generator: Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014.
#[derive(Clone, Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// The seed of the program with this number.
pub fn seed(of_all: u64, number: u64) -> u64 {
    let mut random = SplitMix(of_all);
    random.0 ^= SplitMix(number).next();
    random.next()
}

/// A sequence that is no longer and no larger than `sequence`, for which `fails` is still true, after
/// at most `budget` trials: leaves out pieces, ever smaller ones, and then makes choices smaller.
pub fn shrink(
    sequence: &[u32],
    mut budget: usize,
    mut fails: impl FnMut(&[u32]) -> bool,
) -> Vec<u32> {
    let mut best = sequence.to_vec();
    let mut accepts = |best: &mut Vec<u32>, candidate: Vec<u32>| {
        if budget == 0 || candidate == *best {
            return false;
        }
        budget -= 1;
        let accepted = fails(&candidate);
        if accepted {
            *best = candidate;
        }
        accepted
    };
    let halves = std::iter::successors(Some(sequence.len()), |piece| Some(piece / 2));
    // A statement takes a few choices: try all small numbers of them, and everywhere.
    let pieces: Vec<usize> = halves.take_while(|&piece| piece > 8).chain((1..=8).rev()).collect();
    loop {
        let before = best.clone();
        for &piece in &pieces {
            let mut start = 0;
            while start < best.len() {
                let end = (start + piece).min(best.len());
                let without = [&best[..start], &best[end..]].concat();
                let mut zeroed = best.clone();
                zeroed[start..end].fill(0);
                if !accepts(&mut best, without) {
                    accepts(&mut best, zeroed);
                    start += piece.div_ceil(4);
                }
            }
        }
        for index in 0..best.len() {
            for smaller in [best[index] / 2, best[index].saturating_sub(1)] {
                let mut candidate = best.clone();
                candidate[index] = smaller;
                accepts(&mut best, candidate);
            }
        }
        while best.last() == Some(&0) {
            best.pop();
        }
        if best == before || best.is_empty() {
            return best;
        }
    }
}
