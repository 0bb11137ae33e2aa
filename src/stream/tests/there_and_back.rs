//! A branch that is moved there and back while the lanes of a follower stand before, inside and
//! behind a net difference, so that they meet the same snapshots twice (TOK-12).

use std::collections::BTreeSet;
use std::sync::MutexGuard;

use super::assign::apart;
use super::breaks::{Bag, apply, exact, follow_in_parts, held, point};
use super::*;
use crate::stream::state::State;
use crate::table::NetStep;

/// A commit, or the net difference that led to it.
type Step = (SnapshotId, Option<NetStep>);
type Change = ((i64, i64), &'static str);

/// What a follower was told: the rows that it has, how often each change of a step came, and the
/// time that it was promised to be past.
#[derive(Debug, Clone, Default)]
struct Told {
    rows: Bag,
    watermark: Option<i64>,
    steps: BTreeMap<Step, BTreeMap<Change, usize>>,
}

impl Told {
    fn take(&mut self, batch: &ChangeBatch, rows: usize) {
        assert!(self.watermark <= Some(batch.commit.time_ms), "late: {:?}", batch.commit);
        apply(&mut self.rows, batch, rows);
        let commit = &batch.commit;
        let step = self.steps.entry((commit.snapshot_id, commit.net)).or_default();
        for (row, kind) in rows_of(batch).into_iter().zip(&batch.kinds).take(rows) {
            *step.entry((row, kind.as_str())).or_default() += 1;
        }
    }

    fn and(mut self, other: &Self) -> Self {
        self.rows.extend(&other.rows);
        self.watermark = self.watermark.min(other.watermark);
        for (step, changes) in &other.steps {
            self.steps.entry(*step).or_default().extend(changes);
        }
        self
    }

    /// All groups go one way: every change of a step came as often as the others.
    #[track_caller]
    fn check(&self, table_rows: &Bag, whole: &Told, scene: &str) {
        assert_eq!(&self.rows, table_rows, "{scene}");
        for (step, changes) in &self.steps {
            let often: Vec<usize> = changes.values().copied().collect();
            assert!(often.windows(2).all(|two| two[0] == two[1]), "{scene}: {step:?} {changes:?}");
            if let Some(known) = whole.steps.get(step) {
                assert!(known.keys().eq(changes.keys()), "{scene}: {step:?} {changes:?} {known:?}");
            }
        }
    }
}

/// How much a lane takes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Take {
    Nothing,
    /// A batch, with a stop in its middle.
    One,
    /// Whatever comes.
    All,
}

/// What a lane had been told wherever it may have stopped.
type Stops = Vec<(Token, Told)>;

/// Where the branch is moved to.
#[derive(Debug, Clone, Copy)]
enum Spot {
    Old(usize),
    New(usize),
}

impl Spot {
    fn of(self, lines: &Lines) -> SnapshotId {
        match self {
            Self::Old(n) => lines.old[n],
            Self::New(n) => lines.new[n],
        }
    }
}

use Spot::{New, Old};
use Take::{All, Nothing, One};

/// A follower on two lanes.
struct Follower {
    lanes: Vec<Lane>,
    /// By lane.
    told: Vec<Told>,
    stops: [Stops; 2],
    /// Stops of the two lanes at one time.
    together: BTreeSet<(usize, usize)>,
}

impl Follower {
    async fn after(feed: &Feed, start: SnapshotId) -> Self {
        let builder = exact(feed).start(Start::AfterSnapshot(start)).until(Until::Forever);
        let lanes = builder.lanes(2).open().await.unwrap().into_lanes().unwrap();
        let rows = held(&at(feed, start).await).await;
        let of = |part: i64| {
            let rows = rows.iter().filter(|((p, _), _)| *p == part).map(|(row, n)| (*row, *n));
            Told { rows: rows.collect(), ..Told::default() }
        };
        let told = apart().map(of).to_vec();
        let mut follower =
            Self { lanes, told, stops: Default::default(), together: BTreeSet::new() };
        (0..2).for_each(|lane| follower.stop(lane));
        follower
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.lanes[0].hub().state()
    }

    /// Waits until the follower has noticed where the branch is.
    async fn notice(&self, feed: &Feed) {
        let there = feed.table.metadata_location();
        while self.state().table.metadata_location() != there {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// True when nothing more comes out of a lane as things are.
    fn is_idle(&self, lane: usize) -> bool {
        let state = self.state();
        state.lanes[lane].queue.cursor.step >= state.timeline.end() && state.is_stuck(&[lane])
    }

    async fn take(&mut self, lane: usize, take: Take) {
        let mut goes_on = take != Take::Nothing;
        while goes_on {
            let next = self.lanes[lane].try_next();
            match tokio::time::timeout(Duration::from_millis(2), next).await {
                Err(_) => goes_on = !self.is_idle(lane),
                Ok(event) => {
                    let batch = match event.unwrap().unwrap() {
                        StreamEvent::Batch(batch) => batch,
                        StreamEvent::Watermark(time) => {
                            self.told[lane].watermark = Some(time);
                            continue;
                        }
                        StreamEvent::Schema(change) => panic!("{change:?}"),
                    };
                    if batch.kinds.len() > 1 {
                        let mut told = self.told[lane].clone();
                        told.take(&batch, 1);
                        self.stop_at(lane, batch.token_after(0).unwrap(), told);
                    }
                    self.told[lane].take(&batch, batch.kinds.len());
                    self.stop(lane);
                    goes_on = take == Take::All;
                }
            }
        }
        self.stop(lane);
    }

    fn stop(&mut self, lane: usize) {
        self.stop_at(lane, self.lanes[lane].token(), self.told[lane].clone());
    }

    fn stop_at(&mut self, lane: usize, token: Token, told: Told) {
        if self.stops[lane].last().is_none_or(|(known, _)| *known != token) {
            self.stops[lane].push((token, told));
        }
        let [first, second] = [0, 1].map(|lane: usize| self.stops[lane].len());
        self.together.extend((first * second > 0).then(|| (first - 1, second - 1)));
    }

    /// What a sink has that stored one token of each lane.
    fn stored(&self, (first, second): (usize, usize)) -> (Token, Told) {
        let [(first, one), (second, other)] = [&self.stops[0][first], &self.stops[1][second]];
        (first.merge(second).unwrap(), one.clone().and(other))
    }

    fn all_told(&self) -> Told {
        self.told[0].clone().and(&self.told[1])
    }
}

async fn at(feed: &Feed, snapshot: SnapshotId) -> Table {
    let mut there = Feed { table: feed.table.clone(), ..Feed::new() };
    let head = feed.head();
    point(&mut there, "main", snapshot).await;
    let table = there.table.clone();
    point(&mut there, "main", head).await;
    table
}

/// The old line is `old[0]`, `old[1]`, `old[2]`; `new` branches off behind `old[0]`. The second
/// snapshots of both lines change only the first lane's partition.
struct Lines {
    feed: Feed,
    old: [SnapshotId; 3],
    new: [SnapshotId; 2],
}

impl Lines {
    async fn new() -> Self {
        let (mut feed, both) = (Feed::new(), apart());
        let root = feed.append(&both, 3).await;
        let old = [root, feed.append(&both[..1], 3).await, feed.append(&both, 3).await];
        point(&mut feed, "main", root).await;
        let new = [feed.append(&both, 2).await, feed.append(&both[..1], 3).await];
        point(&mut feed, "old", old[2]).await;
        point(&mut feed, "new", new[1]).await;
        point(&mut feed, "main", old[2]).await;
        Self { feed, old, new }
    }

    /// Where the branch may be when a follower is opened again.
    fn all(&self) -> impl Iterator<Item = SnapshotId> + use<> {
        self.old.into_iter().chain(self.new)
    }
}

/// Goes on from every stop of both lanes at one time, and from some of each lane at its own time,
/// wherever the branch is then, on some numbers of lanes.
async fn go_on_from_everywhere(lines: &mut Lines, follower: &Follower, scene: &str) {
    let whole = follower.all_told();
    for (n, end) in lines.all().enumerate() {
        point(&mut lines.feed, "main", end).await;
        let rows = held(&lines.feed.table).await;
        let [first, second] = [0, 1].map(|lane: usize| follower.stops[lane].len());
        let some = 1 + first * second / 16;
        for stop in (0..first).flat_map(|first| (0..second).map(move |second| (first, second))) {
            let turn = stop.0 + 2 * stop.1 + n;
            let one_of = if follower.together.contains(&stop) { 2 } else { some };
            if turn % one_of != 0 {
                continue;
            }
            let (token, mut told) = follower.stored(stop);
            let scene = format!("{scene}, stop {stop:?}, to {end}: {token}");
            let start = Start::At(token.to_string().parse().unwrap());
            let builder = exact(&lines.feed).start(start).lanes([1, 2, 5][turn % 3]);
            let mut stream = builder.open().await.unwrap_or_else(|e| panic!("{scene}: {e:?}"));
            while let Some(event) = stream.try_next().await.unwrap() {
                if let StreamEvent::Batch(batch) = event {
                    told.take(&batch, batch.kinds.len());
                }
            }
            told.check(&rows, &whole, &scene);
        }
    }
}

/// Moves the branch and lets the lanes take of it, stage by stage; then everything there is.
async fn play(scene: &str, stages: &[(Spot, Take, Take)]) {
    let mut lines = Lines::new().await;
    let mut follower = Follower::after(&lines.feed, lines.old[0]).await;
    for (to, first, second) in stages {
        let to = to.of(&lines);
        point(&mut lines.feed, "main", to).await;
        follower.notice(&lines.feed).await;
        follower.take(0, *first).await;
        follower.take(1, *second).await;
    }
    // A lane that waits at a barrier goes on when the other one is there.
    for lane in [0, 1].repeat(stages.len() + 2) {
        follower.take(lane, Take::All).await;
    }
    let rows = held(&lines.feed.table).await;
    let told = follower.all_told();
    told.check(&rows, &told, scene);
    assert!((0..2).all(|lane| follower.is_idle(lane)));
    go_on_from_everywhere(&mut lines, &follower, scene).await;
}

#[tokio::test]
async fn a_lane_inside_a_net_difference_and_one_that_is_back_on_the_old_line_are_told_apart() {
    // Rolled back; the first lane is inside the difference while the second one, behind it, is
    // taken along the old line again, as far as it has nothing to do there.
    let rolled_back = [(Old(2), All, All), (Old(0), One, All)];
    play("back", &[&rolled_back[..], &[(Old(1), Nothing, All)]].concat()).await;
    play(
        "and back again",
        &[&rolled_back[..], &[(Old(1), Nothing, All), (Old(0), Nothing, All)]].concat(),
    )
    .await;
    play("all the way", &[&rolled_back[..], &[(Old(2), Nothing, All)]].concat()).await;
}

#[tokio::test]
async fn a_lane_at_the_end_of_a_net_difference_and_one_before_it_are_told_apart() {
    let stages =
        [(Old(2), All, All), (Old(0), All, All), (Old(2), Nothing, All), (Old(2), One, One)];
    play("behind it", &stages).await;
    play("before it", &[(Old(2), All, One), (Old(0), All, Nothing), (Old(2), All, Nothing)]).await;
}

#[tokio::test]
async fn lanes_on_two_lines_of_history_go_the_same_way() {
    // The second lane has nothing in the old line's second snapshot, or in the new line's.
    play("ahead by nothing", &[(Old(1), One, All), (New(1), Nothing, All), (Old(2), Nothing, All)])
        .await;
    let around =
        [(Old(2), One, All), (New(1), All, One), (Old(1), One, All), (New(0), Nothing, All)];
    play("around", &around).await;
    play("there and back twice", &[&around[..], &around[..]].concat()).await;
}

/// Tokens of the first form knew no legs.
#[tokio::test]
async fn a_token_without_legs_is_restored_where_it_tells_and_refused_where_it_does_not() {
    let lines = Lines::new().await;
    let ([root, _, last], [new, _]) = (lines.old, lines.new);
    let mut feed = lines.feed;
    let from = exact(&feed).start(Start::AfterSnapshot(last)).open().await.unwrap().token();
    let before = held(&feed.table).await;
    point(&mut feed, "main", root).await;
    // It stops inside the difference, as it would have before there were legs.
    let mut stream = exact(&feed).start(Start::At(from.clone())).lanes(2).open().await.unwrap();
    let begun = loop {
        if let StreamEvent::Batch(batch) = stream.try_next().await.unwrap().unwrap() {
            let token = batch.token_after(0).unwrap();
            let inside = token.places().find(|(_, place)| matches!(place, Place::Net(..))).unwrap();
            break (inside, (rows_of(&batch)[0], batch.kinds[0]));
        }
    };
    let ((group, inside), (row, kind)) = begun;
    assert_eq!(kind, ChangeKind::Delete);
    let net = |to| Place::Net(NetStep { from: Some(last), to }, None);
    let on_one_leg = |place: Place| (0..64).fold(from.clone(), |token, n| token.with(n, place));
    let first_form = |token: Token| {
        let text = token.to_string();
        assert!(text.starts_with("mw1."), "{text}");
        text.parse::<Token>().unwrap()
    };

    let mut told = before.clone();
    told.remove(&row);
    let inside = first_form(from.clone().with(group, inside));
    follow_in_parts(&feed, inside.clone(), &mut told).await;
    assert_eq!(told, held(&feed.table).await);
    let behind = first_form(on_one_leg(net(root)));
    assert!(all(exact(&feed).start(Start::At(behind.clone()))).await.unwrap().is_empty());

    // Behind the difference, or before it? The branch may have gone either way.
    let unsure = first_form(behind.with(0, Place::After(last)));
    let error = exact(&feed).start(Start::At(unsure)).open().await.unwrap_err();
    let advice = ["full read"];
    assert_advises(&error, ErrorKind::InvalidInput, &["which side", &last.to_string()], &advice);
    // Lines that lie apart tell.
    point(&mut feed, "main", new).await;
    let apart = first_form(on_one_leg(net(new)).with(group, Place::After(last)));
    exact(&feed).start(Start::At(apart)).open().await.unwrap();
}
