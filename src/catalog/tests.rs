//! What no contract can ask: faults, foreign files, old layouts.
