//! Moves of a job through every order of requests, lost answers and restarts, with the function that
//! hosts change their custody with.
//!
//! Two searches, each through all states that can be reached within small numbers of moves:
//!
//! - clients that ask for anything at any time with all that was ever shown to any of them: at no
//!   time do two hosts run the job, and one that was ended never runs again;
//! - clients that do as `docs/PROTOCOL.md` says, two at a time, each stopped anywhere: whatever they
//!   leave behind, a client that knows nothing settles, and the job is on exactly one host.

use std::collections::{HashSet, VecDeque};

use spore_transport::PublicKey;
use spore_transport::job::custody::{Event, Next};
use spore_transport::job::{Custody, JobId, Lock, MoveId, MoveStep, Place, Release};

const JOB: JobId = JobId([7; 16]);

fn key(host: usize) -> PublicKey {
    PublicKey([host as u8; 32])
}

fn number(drawn: u8) -> [u8; 16] {
    [drawn; 16]
}

/// What the hosts have on disk, and what was drawn at random so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Hosts {
    custody: Vec<Option<Custody>>,
    moves: u8,
    releases: u8,
    /// The job ended, its owner has the ending, and the host has forgotten it.
    acknowledged: bool,
}

impl Hosts {
    fn new(count: usize) -> Hosts {
        let mut custody = vec![None; count];
        custody[0] = Some(Custody::Here);
        Hosts {
            custody,
            moves: 0,
            releases: 0,
            acknowledged: false,
        }
    }

    /// Lets `event` happen at a host. Says whether it was not refused.
    fn on(&mut self, host: usize, event: &Event) -> bool {
        let Ok(after) = Custody::after(JOB, self.custody[host], event) else {
            return false;
        };
        self.acknowledged |= *event == Event::Acknowledge;
        self.custody[host] = after;
        // Answers are lost: whoever asks again is answered as before.
        let again = match *event {
            Event::Acknowledge => return true,
            Event::Offer { from, .. } => Event::Offer {
                drawn: MoveId(number(200)),
                from,
            },
            Event::Leave { move_id, to, .. } => Event::Leave {
                move_id,
                to,
                drawn: Release(number(200)),
            },
            event => event,
        };
        assert_eq!(Custody::after(JOB, after, &again), Ok(after), "{event:?}");
        true
    }

    fn step(&mut self, host: usize, move_id: MoveId, step: MoveStep) -> bool {
        self.on(host, &Event::Step { move_id, step })
    }

    fn offer(&mut self, host: usize, from: usize) -> Option<MoveId> {
        self.moves += 1;
        let drawn = MoveId(number(self.moves));
        let from = key(from);
        self.on(host, &Event::Offer { drawn, from })
            .then(|| match self.custody[host] {
                Some(Custody::Offered { move_id, .. }) => move_id,
                other => panic!("{other:?} after an offer"),
            })
    }

    fn leave(&mut self, host: usize, move_id: MoveId, to: usize) -> Option<(Lock, Release)> {
        self.releases += 1;
        let drawn = Release(number(self.releases));
        let to = key(to);
        self.on(host, &Event::Leave { move_id, to, drawn })
            .then(|| match self.custody[host] {
                Some(Custody::Leaving { release, .. }) => (release.lock(JOB, move_id), release),
                other => panic!("{other:?} after it left"),
            })
    }

    fn give_up(&mut self, host: usize, move_id: MoveId, lock: Lock) -> Option<Release> {
        self.step(host, move_id, MoveStep::GiveUp { lock })
            .then(|| self.custody[host].and_then(|custody| custody.release()))
            .flatten()
    }

    fn place(&self, host: usize) -> Option<Place> {
        self.custody[host].map(|custody| custody.place(JOB))
    }

    fn running(&self) -> usize {
        let held = self.custody.iter().flatten();
        held.filter(|custody| custody.may_run()).count()
    }

    /// What holds at any time.
    fn is_safe(&self) -> bool {
        self.running() + usize::from(self.acknowledged) <= 1
    }
}

/// Visits every state that can be reached, each once. Stops at the first that `visit` finds wrong.
fn search<S: Clone + Eq + std::hash::Hash>(
    start: S,
    successors: impl Fn(&S, &mut Vec<S>),
    mut is_right: impl FnMut(&S) -> bool,
) -> Result<usize, S> {
    let mut seen = HashSet::from([start.clone()]);
    let mut queue = VecDeque::from([start]);
    let mut next = Vec::new();
    while let Some(state) = queue.pop_front() {
        if !is_right(&state) {
            return Err(state);
        }
        successors(&state, &mut next);
        for state in next.drain(..) {
            if seen.insert(state.clone()) {
                queue.push_back(state);
            }
        }
    }
    Ok(seen.len())
}

/// Clients that ask for anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Anything {
    hosts: Hosts,
    /// Locks that were shown, with the move of each.
    locks: Vec<(MoveId, Lock)>,
    /// Releases that were shown.
    releases: Vec<Release>,
}

struct Bounds {
    moves: u8,
    departures: u8,
    adopts: bool,
}

fn anything(state: &Anything, bounds: &Bounds, next: &mut Vec<Anything>) {
    let count = state.hosts.custody.len();
    let mut with = |change: &dyn Fn(&mut Anything) -> bool| {
        let mut after = state.clone();
        if change(&mut after) {
            next.push(after);
        }
    };
    let moves: Vec<_> = (1..=state.hosts.moves).map(|n| MoveId(number(n))).collect();
    for host in 0..count {
        let peer = (host + 1) % count;
        with(&|s| s.hosts.on(host, &Event::Lapse));
        with(&|s| s.hosts.on(host, &Event::Acknowledge));
        if state.hosts.moves < bounds.moves {
            with(&|s| s.hosts.offer(host, peer).is_some());
        }
        for &move_id in &moves {
            if state.hosts.releases < bounds.departures {
                with(&|s| {
                    let left = s.hosts.leave(host, move_id, peer);
                    s.locks.extend(left.map(|(lock, _)| (move_id, lock)));
                    left.is_some()
                });
            }
            use MoveStep::{Drop, Forget, Settle, Stay};
            for step in [Forget, Settle, Stay, Drop { lock: None }] {
                with(&|s| s.hosts.step(host, move_id, step));
            }
            if bounds.adopts {
                with(&|s| s.hosts.step(host, move_id, MoveStep::Adopt));
            }
            for &(_, lock) in &state.locks {
                with(&|s| s.hosts.on(host, &Event::Arrive { move_id, lock }));
                with(&|s| s.hosts.step(host, move_id, Drop { lock: Some(lock) }));
                with(&|s| {
                    let release = s.hosts.give_up(host, move_id, lock);
                    s.releases
                        .extend(release.filter(|release| !state.releases.contains(release)));
                    release.is_some()
                });
            }
            for &release in &state.releases {
                with(&|s| s.hosts.step(host, move_id, MoveStep::TakeOver { release }));
            }
        }
    }
}

fn ask_anything(hosts: usize, bounds: &Bounds) -> Result<usize, Anything> {
    let start = Anything {
        hosts: Hosts::new(hosts),
        locks: Vec::new(),
        releases: Vec::new(),
    };
    search(
        start,
        |state, next| anything(state, bounds, next),
        |state| state.hosts.is_safe(),
    )
}

#[test]
fn no_client_makes_two_hosts_run_a_job() {
    for (hosts, moves, departures) in [(2, 3, 3), (3, 2, 3)] {
        let bounds = Bounds {
            moves,
            departures,
            adopts: false,
        };
        let Ok(states) = ask_anything(hosts, &bounds) else {
            panic!("two of {hosts} hosts run it");
        };
        println!("{hosts} hosts, {moves} moves, {departures} departures: {states} states");
        assert!(states > 1_000, "{states}");
    }
}

/// That the search finds what is wrong, and that adopting is what its documentation says.
#[test]
fn a_client_that_adopts_does() {
    let bounds = Bounds {
        moves: 1,
        departures: 1,
        adopts: true,
    };
    let wrong = ask_anything(2, &bounds).expect_err("both run it");
    assert_eq!(wrong.hosts.running(), 2);
}

/// A client that does as the document says, between two steps.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    Offers,
    Leaves(MoveId),
    Arrives(MoveId, Lock),
    GivesUp(MoveId, Lock),
    TakesOver(MoveId, Release),
    Forgets(MoveId),
    Settles(MoveId),
    /// Asks the target where the job is.
    Looks,
    /// Asks the source, knowing what the target said.
    LooksOn(Option<Place>),
    Acts(Next),
    Carries(MoveId, Release),
    Done,
}

/// From host to host.
type Way = (usize, usize);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Moving {
    hosts: Hosts,
    clients: [(Way, Client); 2],
}

const DEPARTURES_MAX: u8 = 3;
const MOVES_MAX: u8 = 3;

/// Takes the next step of a client. Nothing when it is refused.
fn proceed(hosts: &mut Hosts, (from, to): Way, client: Client) -> Option<Client> {
    let on = |done: bool, next| done.then_some(next);
    match client {
        Client::Offers => hosts.offer(to, from).map(Client::Leaves),
        Client::Leaves(id) => {
            let left = hosts.leave(from, id, to);
            left.map(|(lock, _)| Client::Arrives(id, lock))
        }
        Client::Arrives(move_id, lock) => {
            let arrived = hosts.on(to, &Event::Arrive { move_id, lock });
            on(arrived, Client::GivesUp(move_id, lock))
        }
        Client::GivesUp(id, lock) => {
            let release = hosts.give_up(from, id, lock);
            release.map(|release| Client::TakesOver(id, release))
        }
        Client::TakesOver(id, release) => {
            let took = hosts.step(to, id, MoveStep::TakeOver { release });
            on(took, Client::Forgets(id))
        }
        Client::Forgets(id) => on(hosts.step(from, id, MoveStep::Forget), Client::Settles(id)),
        Client::Settles(id) => on(hosts.step(to, id, MoveStep::Settle), Client::Done),
        Client::Looks => Some(Client::LooksOn(hosts.place(to))),
        Client::LooksOn(seen) => {
            let (target, source) = ((key(to), seen), (key(from), hosts.place(from)));
            Some(Client::Acts(Next::of(target, source)))
        }
        Client::Acts(next) => match next {
            Next::Settled | Next::Unclear { .. } => Some(Client::Done),
            Next::AskSource { move_id, step } => on(hosts.step(from, move_id, step), Client::Looks),
            Next::AskTarget { move_id, step } => on(hosts.step(to, move_id, step), Client::Looks),
            Next::Carry { move_id, lock } => {
                let release = hosts.give_up(from, move_id, lock);
                release.map(|release| Client::Carries(move_id, release))
            }
        },
        Client::Carries(id, release) => {
            let took = hosts.step(to, id, MoveStep::TakeOver { release });
            on(took, Client::Looks)
        }
        Client::Done => None,
    }
}

fn moving(state: &Moving, next: &mut Vec<Moving>) {
    for host in 0..2 {
        for event in [Event::Lapse, Event::Acknowledge] {
            let mut after = state.clone();
            if after.hosts.on(host, &event) {
                next.push(after);
            }
        }
    }
    for index in 0..2 {
        let (way, client) = state.clients[index];
        let drawn = match client {
            Client::Done => continue,
            Client::Offers => state.hosts.moves >= MOVES_MAX,
            Client::Leaves(_) => state.hosts.releases >= DEPARTURES_MAX,
            _ => false,
        };
        if drawn {
            continue;
        }
        let mut after = state.clone();
        // The host carries it out, and the answer arrives, or is lost: then the client asks again, or
        // looks. When the request is lost, nothing has changed, and it does the same.
        let answered = proceed(&mut after.hosts, way, client);
        let after_refusal = match client {
            Client::Looks | Client::LooksOn(_) => client,
            _ => Client::Looks,
        };
        for then in [answered.unwrap_or(after_refusal), client, Client::Looks] {
            after.clients[index].1 = then;
            next.push(after.clone());
            let mut lost = state.clone();
            lost.clients[index].1 = then;
            if then != answered.unwrap_or(after_refusal) {
                next.push(lost);
            }
        }
    }
}

/// A client that knows nothing settles, between the two hosts and both ways.
fn settled(mut hosts: Hosts) -> Option<Hosts> {
    for way in [(0, 1), (1, 0), (0, 1)] {
        let mut client = Client::Looks;
        for _ in 0..40 {
            if client == Client::Done {
                break;
            }
            client = proceed(&mut hosts, way, client)?;
        }
        if client != Client::Done {
            return None;
        }
    }
    Some(hosts)
}

fn comes_to_one_host(hosts: &Hosts) -> bool {
    if !hosts.is_safe() {
        return false;
    }
    let Some(end) = settled(hosts.clone()) else {
        return false;
    };
    match end.acknowledged {
        // What an ended job left behind at another host may be for a person to drop.
        true => end.running() == 0,
        false => {
            let held: Vec<_> = end.custody.iter().flatten().collect();
            held == [&Custody::Here]
        }
    }
}

#[test]
fn whatever_clients_leave_behind_another_settles() {
    let there = (0, 1);
    let back = (1, 0);
    let seconds = [
        (there, Client::Offers),
        (back, Client::Offers),
        (there, Client::Looks),
        (back, Client::Looks),
    ];
    for second in seconds {
        let start = Moving {
            hosts: Hosts::new(2),
            clients: [(there, Client::Offers), second],
        };
        let all = search(start, moving, |state| comes_to_one_host(&state.hosts));
        let states = match all {
            Ok(states) => states,
            Err(state) => panic!("{:?}", state.hosts.custody),
        };
        println!("{states} states");
        assert!(states > 1_000, "{states}");
    }
}

/// The way of a move that nothing disturbs, as `docs/PROTOCOL.md` draws it.
#[test]
fn an_undisturbed_move_ends_at_the_target() {
    let mut hosts = Hosts::new(2);
    let mut client = Client::Offers;
    let mut ran = Vec::new();
    while client != Client::Done {
        client = proceed(&mut hosts, (0, 1), client).expect("not refused");
        ran.push(
            hosts
                .custody
                .iter()
                .position(|it| it.is_some_and(|it| it.may_run())),
        );
    }
    let expected = [Some(0), None, None, None, Some(1), Some(1), Some(1)];
    assert_eq!(ran, expected);
    assert_eq!(hosts.custody, [None, Some(Custody::Here)]);
}
