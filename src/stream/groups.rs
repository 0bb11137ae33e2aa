//! Which partitions go together: a fixed number of groups, dealt out to lanes.

use crate::spec::PartitionKey;
use crate::table::MAX_GROUPS;

/// How the changes of a table are put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// All changes of one partition leave in commit order on one lane, at any number of lanes.
    #[default]
    PerPartition,
    /// All changes of the table leave in commit order, on the only lane.
    PerSnapshot,
    /// Files and change units go to any lane, whatever their partition and commit: even a table
    /// without partitions is read on all lanes. Rows of one file or unit keep their order, and
    /// the two images of an update stay together; nothing else is in order. The commit's leg and
    /// sequence number tell which of two changes is the later one; what is dead in a file that
    /// several lanes share is worked out anew each time. Which lane gets what is fixed, so that a
    /// lane's token covers its groups and lists no files: a lane that is not polled keeps back its
    /// share of the work, and no more (STR-15).
    Unordered,
}

impl Order {
    /// The number of groups: fixed for a stream's life, for positions are kept per group.
    pub(super) fn groups(self) -> u8 {
        match self {
            Self::PerPartition | Self::Unordered => MAX_GROUPS,
            Self::PerSnapshot => 1,
        }
    }

    /// The group of a file or unit: that of its partition (STR-1), or with no order one that
    /// only its digest decides (STR-15).
    pub(super) fn group_of(self, partition: Option<&PartitionKey>, digest: u64) -> u8 {
        let hash = match self {
            Self::Unordered => digest,
            Self::PerPartition | Self::PerSnapshot => {
                partition.map_or(0, PartitionKey::stable_hash)
            }
        };
        u8::try_from(hash % u64::from(self.groups())).unwrap_or(0)
    }
}

/// The lane that owns a group.
pub(super) fn lane_of(group: u8, lanes: usize) -> usize {
    usize::from(group) % lanes.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Literal, Struct};

    fn key(value: Literal) -> PartitionKey {
        PartitionKey { spec_id: 3, values: Struct::from_iter([Some(value)]) }
    }

    /// Fixed numbers: a change would break every stored position.
    #[test]
    fn a_partition_keeps_its_group_for_ever() {
        let group = |value| Order::PerPartition.group_of(Some(&key(value)), 5);
        let groups = [
            group(Literal::int(1)),
            group(Literal::int(2)),
            group(Literal::string("2024-01-31")),
            group(Literal::bool(true)),
            Order::PerPartition.group_of(Some(&PartitionKey::unpartitioned(0)), 5),
        ];
        assert_eq!(groups, GROUPS);
        assert_eq!(group(Literal::int(7)), group(Literal::long(7)), "widened");
        assert_eq!(group(Literal::float(1.5)), group(Literal::double(1.5)), "widened");
    }

    #[test]
    fn groups_fill_evenly_and_lanes_share_them() {
        let mut sizes = [0; 64];
        for n in 0..6400 {
            let group = Order::PerPartition.group_of(Some(&key(Literal::int(n))), 5);
            sizes[usize::from(group)] += 1;
        }
        assert!(sizes.iter().all(|n| (50..170).contains(n)), "{sizes:?}");
        for lanes in 1..=8 {
            let mut owned = vec![0; lanes];
            (0..64).for_each(|group| owned[lane_of(group, lanes)] += 1);
            assert!(owned.iter().all(|n| *n >= 64 / lanes));
        }
        assert_eq!(Order::PerSnapshot.group_of(Some(&key(Literal::int(5))), 5), 0);
        let any = |digest| Order::Unordered.group_of(Some(&key(Literal::int(5))), digest);
        assert_eq!([any(5), any(64), any(127)], [5, 0, 63], "the digest alone decides");
    }

    const GROUPS: [u8; 5] = [9, 21, 30, 36, 59];
}
