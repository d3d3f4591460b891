//! Stack instructions and near transfers.
