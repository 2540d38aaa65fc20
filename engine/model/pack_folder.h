// Where side files of packed weights lie, and how many.
#pragma once

#include <cstdint>
#include <string>

#include "engine/base/result.h"

namespace glimpse {

/// A folder for side files. most_bytes: what its files may take together; 0: as many as come.
struct PackFolder {
  std::string path;
  uint64_t most_bytes = 0;
};

/// The choice that stands for the user's own folder; a folder of this name is "./auto".
constexpr const char* kAutoPackFolder = "auto";
/// What files in the user's own folder may take together.
constexpr uint64_t kAutoPackBytes = uint64_t{16} << 30;
/// What make_room() leaves free on the disk.
constexpr uint64_t kFreeDiskBytes = uint64_t{1} << 30;

/// choice: a folder that exists, or "auto": $XDG_CACHE_HOME/glimpse, or $HOME/.cache/glimpse, made when missing (for
/// its owner alone) and bounded by kAutoPackBytes. Errors, of "auto" only: kNotFound (neither variable names a folder),
/// kIo, kInvalidArgument (it is no folder, belongs to somebody else, or others may write into it: who can write there
/// chooses answers).
Result<PackFolder> find_pack_folder(const std::string& choice);

/// Deletes side files, those first that were not used for the longest time, until n_bytes more fit the bound and the
/// disk; what killed processes left of some are such files too. Processes that have one open keep what they have.
/// Nothing else in the folder is touched, nor is the file `needed`, whose loss the next load would have to make good.
/// Does nothing in a folder without a bound. Errors: kTooLarge (n_bytes, with what is needed, are too many; nothing is
/// deleted then), kIo.
Status make_room(const PackFolder& folder, uint64_t n_bytes, const std::string& needed = {});

}  // namespace glimpse
