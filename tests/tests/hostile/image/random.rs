//! Images that are changed at random, always the same ones.

use spore_bundle::image::{GlobalValue, Index, Random};
use spore_tests::outcome::soon;
use spore_tests::{keeper, resumer};
use spore_transport::job::JobStarted;
use spore_transport::message::Message;
use spore_transport::session::SessionOpened;
use spore_value::codec;

use super::{
    BLOCK_BYTES, bound, call_in, close, ended, global, index_of, is_no_fault_of_the_host,
    saved_job, saved_session, serves, start,
};
use crate::asking::Parts;

/// Where the changes begin, unless `SPORE_IMAGE_SEED` says otherwise.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Images that are changed, unless `SPORE_IMAGES` says otherwise.
const IMAGES: u64 = 150;

/// Numbers without a pattern, the same for the same seed.
struct Noise(u64);

impl Noise {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.draw() % limit as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Changes an image in one way. Says in which.
fn changed(mut forged: Parts, noise: &mut Noise) -> (&'static str, Parts) {
    let index = forged.read_index();
    let blocks = index.ids.len();
    match noise.below(10) {
        0 => {
            let mut bytes = forged.index.clone();
            for _ in 0..=noise.below(3) {
                let place = noise.below(bytes.len());
                bytes[place] = noise.draw() as u8;
            }
            ("bytes of the index", forged.with_bytes(bytes))
        }
        1 => {
            let mut bytes = forged.index.clone();
            match noise.below(2) {
                0 => bytes.truncate(noise.below(bytes.len())),
                _ => bytes.extend((0..=noise.below(40)).map(|_| noise.draw() as u8)),
            }
            ("the end of the index", forged.with_bytes(bytes))
        }
        2 => {
            for _ in 0..=noise.below(4) {
                forged = forged.with_block(noise.below(blocks), |block| {
                    for _ in 0..=noise.below(64) {
                        block[noise.below(BLOCK_BYTES as usize)] = noise.draw() as u8;
                    }
                });
            }
            ("bytes of blocks", forged)
        }
        3 => {
            for _ in 0..=noise.below(blocks) {
                forged = forged.with_block(noise.below(blocks), |block| {
                    block.fill_with(|| noise.draw() as u8);
                });
            }
            ("whole blocks", forged)
        }
        4 => {
            let (one, other) = (noise.below(blocks), noise.below(blocks));
            let forged = forged.with_index(|index| index.ids.swap(one, other));
            ("blocks in each other's place", forged)
        }
        5 => {
            let place = noise.below(blocks);
            let number = noise.below(index.memory_blocks() as usize + 64) as u32;
            let forged = forged.with_index(|index| {
                index.numbers[place] = number;
                // In order more often than not, so that more is looked at.
                if !number.is_multiple_of(4) {
                    index.numbers.sort_unstable();
                }
            });
            ("the place of a block", forged)
        }
        6 => {
            let (bits, number) = (noise.draw(), noise.one_of(&[0, 0, 0, 1, 2, 1_000]));
            let value = match noise.below(8) {
                0 => GlobalValue::I64(bits),
                1 => GlobalValue::F32(bits as u32),
                2 => GlobalValue::F64(bits),
                3 => GlobalValue::V128(bits.into()),
                // Somewhere in the memory, and anywhere.
                4 | 5 => GlobalValue::I32((bits % (u64::from(index.memory_pages) << 16)) as u32),
                _ => GlobalValue::I32(bits as u32),
            };
            let forged = forged.with_index(|index| index.globals = vec![global(number, value)]);
            ("a global", forged)
        }
        7 => {
            let own = index.memory_pages;
            let pages = [0, 1, own - 1, own + 1, own + 9, 256, 257, 65_536, u32::MAX];
            let pages = noise.one_of(&pages);
            let forged = forged.with_index(|index| index.memory_pages = pages);
            ("the size of the memory", forged)
        }
        8 => {
            let forged = forged.with_index(|index| match &mut index.run {
                Some(run) => match noise.below(3) {
                    0 => run.task = noise.draw() as u32,
                    1 => run.items = noise.draw() >> noise.below(64),
                    _ => {
                        run.handle = noise.draw() as u32;
                        index.bound = vec![bound(run.callable, run.handle)];
                    }
                },
                None => index.bound = vec![bound(noise.below(12) as u32, noise.draw() as u32)],
            });
            ("a handle or a task", forged)
        }
        _ => {
            let forged = forged.with_index(|index| {
                index.clock_ns = noise.draw() >> noise.below(64);
                index.random = Some(Random {
                    key: [noise.draw() as u8; 32],
                    position: noise.draw(),
                });
                // No key of these hosts has any.
                if noise.below(4) == 0 {
                    index.directories = vec![noise.one_of(&["data", "..", "x"]).to_owned()];
                }
            });
            ("what is around it", forged)
        }
    }
}

#[tokio::test]
async fn images_changed_at_random_are_refused_or_run_and_harm_nobody() {
    let variable = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
    };
    let seed = variable("SPORE_IMAGE_SEED", SEED).max(1);
    let images = variable("SPORE_IMAGES", IMAGES);
    println!("SPORE_IMAGE_SEED={seed} SPORE_IMAGES={images}");
    let (local, owner, liar) = start().await;
    let bases = [
        (keeper(), Parts::of(&saved_session(&owner).await)),
        (resumer(), Parts::of(&saved_job(&owner).await)),
    ];
    let text = |text: &str| codec::encode(&(text.to_owned(),)).expect("flat");
    let number = |number: u32| codec::encode(&(number,)).expect("flat");
    let calls = [
        [
            ("recall", Vec::new()),
            ("remember", text("another")),
            ("check", Vec::new()),
        ],
        [
            ("looked_up", number(3)),
            ("rounds", number(5)),
            ("stack", Vec::new()),
        ],
    ];
    let mut noise = Noise(seed);
    let (mut refusals, mut values, mut others) = (0, 0, 0);
    let mut count = |outcome: &Message| match outcome {
        Message::Done(_) => values += 1,
        _ => others += 1,
    };
    for round in 0..images {
        let which = (round % 2) as usize;
        let (bundle, base) = &bases[which];
        let (how, mut forged) = changed(base.clone(), &mut noise);
        let mut what = format!("image {round}, {how}");
        // Two changes meet, if the first leaves something to change.
        if noise.below(3) == 0 && Index::decode(&forged.index).is_ok_and(|it| !it.ids.is_empty()) {
            let (how, more) = changed(forged, &mut noise);
            (what, forged) = (format!("{what} and {how}"), more);
        }
        // Shown when the test fails.
        println!("{what}");

        let (opened, _) = soon(&what, forged.answer(&liar, &forged.session())).await;
        if let Message::SessionOpened(SessionOpened { session }) = opened {
            let (name, arguments) = &calls[which][noise.below(3)];
            let callable = index_of(bundle, name);
            let called = call_in(&liar, session, callable, arguments.clone()).await;
            is_no_fault_of_the_host(&called, &what);
            count(&called);
            close(&liar, session).await;
        } else {
            is_no_fault_of_the_host(&opened, &what);
            refusals += 1;
        }

        let (started, _) = soon(&what, forged.answer(&liar, &forged.job())).await;
        if let Message::JobStarted(JobStarted { job, .. }) = started {
            let ended = ended(&liar, job).await;
            is_no_fault_of_the_host(&ended, &what);
            count(&ended);
        } else {
            is_no_fault_of_the_host(&started, &what);
            refusals += 1;
        }
        assert_eq!(liar.close_reason(), None, "{what}");
    }
    println!("{refusals} refused, {values} ended with a value, {others} otherwise");
    // A test in which one of these never comes would show nothing.
    if images >= IMAGES {
        assert!(refusals > 0 && values > 0 && others > 0);
    }
    serves(&local, &liar).await;
}
