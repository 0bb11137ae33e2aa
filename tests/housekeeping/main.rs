//! Expiry and removal of orphans: nothing that is needed goes, everything else does.

mod expire;
mod history;
mod orphans;
mod yard;
