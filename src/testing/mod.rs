//! Fixtures, faults and contract suites.
