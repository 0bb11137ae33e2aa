//! Tokens as one word of ASCII: `mw1.<table>.<planner>.<fingerprint>.<groups>.<places>.<checksum>`.
//!
//! The places begin with the one that most groups share; groups elsewhere follow as
//! `,<group>=<place>`, groups that the token does not cover as `,<group>=-`. Behind the place of a
//! group stand the runs that were delivered ahead of it, `+<from>-<to>` each. The checksum is over
//! everything before its dot.
//!
//! A stream that went over net differences has tokens of a second form, `mw2`: `@<leg>` behind each
//! place that is not on the first leg, and before the checksum one part more, how the groups' legs
//! begin, as `<leg>=<from>:<to>:<time>`, with commas (TOK-12).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::{
    Cursor, Inside, LegStart, MAX_GROUPS, NetStep, PLANNER_VERSION, Place, Run, Stand, Token,
};
use crate::error::{Error, Result};
use crate::spec::SnapshotId;

/// One line of history.
const FORMAT: &str = "mw1";
/// Legs, and net differences between them.
const FORMAT_WITH_LEGS: &str = "mw2";

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body();
        write!(f, "{body}.{:08x}", checksum(&body))
    }
}

impl Token {
    fn body(&self) -> String {
        let (table, groups) = (self.table.simple(), self.groups());
        let common = self.common();
        let has_legs = self.legs().1 > 0 || !self.legs.is_empty();
        let format = if has_legs { FORMAT_WITH_LEGS } else { FORMAT };
        let mut body = format!(
            "{format}.{table}.{PLANNER_VERSION}.{:016x}.{groups}.{}",
            self.fingerprint,
            slot(common)
        );
        for (group, place) in (0u8..).zip(&self.places) {
            let runs = self.ahead(group);
            if *place != common || !runs.is_empty() {
                let runs: String = runs.iter().map(run).collect();
                body.push_str(&format!(",{group}={}{runs}", slot(*place)));
            }
        }
        if has_legs {
            let leg = |(leg, LegStart { net, time_ms }): (&u32, &LegStart)| {
                format!("{leg}={}:{time_ms}", between(net))
            };
            let legs: Vec<String> = self.legs.iter().map(leg).collect();
            body.push_str(&format!(".{}", legs.join(",")));
        }
        body
    }

    /// What most groups have; of several, the first in order, so that one state has one text.
    fn common(&self) -> Option<Stand> {
        let mut counts: BTreeMap<Option<Stand>, usize> = BTreeMap::new();
        for place in &self.places {
            *counts.entry(*place).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or(0);
        counts.into_iter().find(|(_, n)| *n == most).and_then(|(place, _)| place)
    }
}

/// CRC-32, for damage and not for malice.
pub(in crate::table) fn checksum(text: &str) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    crc.sum()
}

fn slot(stand: Option<Stand>) -> String {
    match stand {
        None => "-".into(),
        Some(Stand { leg: 0, place }) => place_text(place),
        Some(Stand { leg, place }) => format!("{}@{leg}", place_text(place)),
    }
}

fn place_text(place: Place) -> String {
    match place {
        Place::Origin => "o".into(),
        Place::After(id) => format!("a{id}"),
        Place::Full(id, None) => format!("f{id}"),
        Place::Full(id, Some(inside)) => format!("f{id}:{}", point(&inside)),
        Place::Within(id, inside) => format!("w{id}:{}", point(&inside)),
        Place::Net(net, None) => format!("n{}", between(&net)),
        Place::Net(net, Some(inside)) => format!("n{}:{}", between(&net), point(&inside)),
    }
}

fn between(net: &NetStep) -> String {
    let from = net.from.map_or("o".to_string(), |id| id.to_string());
    format!("{from}:{}", net.to)
}

fn run(run: &Run) -> String {
    format!("+{}-{}", cursor(run.from), point(&run.to))
}

fn point(inside: &Inside) -> String {
    format!("{}:{:x}", cursor(inside.cursor), inside.digest)
}

fn cursor(cursor: Cursor) -> String {
    let row = |next: u64| if next == Cursor::ALL { "*".to_string() } else { next.to_string() };
    match cursor {
        Cursor::File { manifest, entry, row: next } => format!("{manifest}:{entry}:{}", row(next)),
        Cursor::Unit { unit, ordinal } => format!("{unit}:{}", row(ordinal)),
    }
}

impl FromStr for Token {
    type Err = Error;

    /// Reads a token back, and says what is wrong with it if it cannot be read (TOK-1).
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix("mw") else {
            return Err(Error::invalid("this is no token of a stream")
                .with_context("begins with", text.chars().take(8).collect::<String>())
                .with_hint("a token is one word that begins with `mw1.`"));
        };
        if !rest.starts_with("1.") && !rest.starts_with("2.") {
            let version: String = rest.chars().take_while(char::is_ascii_digit).collect();
            return Err(Error::invalid("the token was written by another version of Meltwater")
                .with_context("token format", version)
                .with_context("this version reads", "1 and 2")
                .with_hint("resume with the version that wrote it, or choose a new start"));
        }
        let (body, sum) = text.rsplit_once('.').ok_or_else(|| damaged("it is cut off"))?;
        if u32::from_str_radix(sum, 16).ok() != Some(checksum(body)) || sum.len() != 8 {
            return Err(damaged("its checksum does not match: letters are missing or changed"));
        }
        parse_body(body)
    }
}

fn parse_body(body: &str) -> Result<Token> {
    let parts: Vec<&str> = body.split('.').collect();
    let (parts, legs) = match parts.as_slice() {
        [FORMAT_WITH_LEGS, parts @ .., legs] => (parts, parse_legs(legs)?),
        [_, parts @ ..] => (parts, BTreeMap::new()),
        [] => (&[][..], BTreeMap::new()),
    };
    let [table, planner, fingerprint, groups, places] = parts else {
        return Err(damaged("it has not the parts of a token"));
    };
    let planner: u32 = planner.parse().map_err(|_| damaged("its planner version is no number"))?;
    if planner != PLANNER_VERSION {
        return Err(Error::invalid("the token counts files in another way than this version")
            .with_context("token's planner version", planner)
            .with_context("this version's", PLANNER_VERSION)
            .with_hint("resume with the version that wrote it, or choose a new start"));
    }
    let table = Uuid::try_parse(table).map_err(|_| damaged("its table is no uuid"))?;
    let fingerprint = u64::from_str_radix(fingerprint, 16)
        .map_err(|_| damaged("its fingerprint is no number"))?;
    let groups: u8 = groups.parse().map_err(|_| damaged("its group count is no number"))?;
    if !(1..=MAX_GROUPS).contains(&groups) {
        return Err(damaged("its group count is out of range"));
    }
    let mut slots = places.split(',');
    let common = parse_slot(slots.next().unwrap_or_default())?;
    let places = vec![common; usize::from(groups)];
    let mut token = Token { table, fingerprint, places, legs, ahead: BTreeMap::new() };
    for slot in slots {
        let (group, place) = slot.split_once('=').ok_or_else(|| damaged("a group has no place"))?;
        let group: u8 = group.parse().map_err(|_| damaged("a group is no number"))?;
        let known = token.places.get_mut(usize::from(group));
        let known = known.ok_or_else(|| damaged("a group is out of range"))?;
        let mut parts = place.split('+');
        *known = parse_slot(parts.next().unwrap_or_default())?;
        let runs = parts.map(parse_run).collect::<Result<Vec<Run>>>()?;
        if !runs.is_empty() {
            if !known.is_some_and(|stand| stand.place.is_full()) {
                return Err(damaged("a place has runs ahead of it that it cannot have"));
            }
            token.ahead.insert(group, runs);
        }
    }
    Ok(token)
}

fn parse_run(text: &str) -> Result<Run> {
    let (from, to) = text.split_once('-').ok_or_else(|| damaged("a run has no end"))?;
    let from = parse_cursor(&from.split(':').collect::<Vec<_>>())?;
    Ok(Run { from, to: parse_point(&to.split(':').collect::<Vec<_>>())? })
}

fn parse_legs(text: &str) -> Result<BTreeMap<u32, LegStart>> {
    let leg = |text: &str| {
        let (leg, start) = text.split_once('=').ok_or_else(|| damaged("a leg has no beginning"))?;
        let mut fields = start.split(':');
        let net = parse_net(&mut fields)?;
        let time_ms = fields.next().and_then(|time| time.parse().ok());
        let time_ms = time_ms.ok_or_else(|| damaged("a time is no number"))?;
        Ok((parse_leg(leg)?, LegStart { net, time_ms }))
    };
    text.split(',').filter(|leg| !leg.is_empty()).map(leg).collect()
}

fn parse_leg(text: &str) -> Result<u32> {
    text.parse().map_err(|_| damaged("a leg is no number"))
}

fn parse_slot(text: &str) -> Result<Option<Stand>> {
    if text == "-" {
        return Ok(None);
    }
    let (place, leg) = text.split_once('@').unwrap_or((text, "0"));
    Ok(Some(Stand { leg: parse_leg(leg)?, place: parse_place(place)? }))
}

fn parse_place(text: &str) -> Result<Place> {
    let Some(kind) = text.chars().next().filter(char::is_ascii) else {
        return Err(damaged("a place is empty"));
    };
    let mut fields = text[1..].split(':');
    Ok(match kind {
        'o' => Place::Origin,
        'a' => Place::After(next_id(&mut fields)?),
        'f' => Place::Full(next_id(&mut fields)?, parse_rest(fields)?),
        'w' => Place::Within(next_id(&mut fields)?, parse_point(&fields.collect::<Vec<_>>())?),
        'n' => Place::Net(parse_net(&mut fields)?, parse_rest(fields)?),
        _ => return Err(damaged("a place is of no known kind")),
    })
}

fn parse_net<'a>(fields: &mut impl Iterator<Item = &'a str>) -> Result<NetStep> {
    let from = match fields.next().unwrap_or_default() {
        "o" => None,
        id => Some(next_id(&mut [id].into_iter())?),
    };
    Ok(NetStep { from, to: next_id(fields)? })
}

/// The point that may stand behind a snapshot.
fn parse_rest<'a>(fields: impl Iterator<Item = &'a str>) -> Result<Option<Inside>> {
    let fields: Vec<&str> = fields.collect();
    (!fields.is_empty()).then(|| parse_point(&fields)).transpose()
}

fn next_id<'a>(fields: &mut impl Iterator<Item = &'a str>) -> Result<SnapshotId> {
    let field = fields.next().unwrap_or_default();
    field.parse().map(SnapshotId).map_err(|_| damaged("a snapshot id is no number"))
}

fn parse_point(fields: &[&str]) -> Result<Inside> {
    let (digest, cursor) =
        fields.split_last().ok_or_else(|| damaged("a place has not the parts of one"))?;
    let cursor = parse_cursor(cursor)?;
    let digest = u64::from_str_radix(digest, 16).map_err(|_| damaged("a digest is no number"))?;
    Ok(Inside { cursor, digest })
}

fn parse_cursor(fields: &[&str]) -> Result<Cursor> {
    let number = |text: &str| text.parse().map_err(|_| damaged("an ordinal is no number"));
    let next = |text: &str| match text {
        "*" => Ok(Cursor::ALL),
        text => text.parse().map_err(|_| damaged("a row is no number")),
    };
    match fields {
        [manifest, entry, row] => {
            let (manifest, entry) = (number(manifest)?, number(entry)?);
            Ok(Cursor::File { manifest, entry, row: next(row)? })
        }
        [unit, ordinal] => Ok(Cursor::Unit { unit: number(unit)?, ordinal: next(ordinal)? }),
        _ => Err(damaged("a place has not the parts of one")),
    }
}

fn damaged(reason: &str) -> Error {
    Error::invalid(format!("the token is damaged: {reason}"))
        .with_hint("copy it again, whole; if it is lost, choose a new start")
}
