#include "engine/model/pass_input.h"

namespace glimpse {

void PassInput::append_text(std::span<const TokenId> ids) {
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  counter_.append_text(static_cast<int64_t>(ids.size()), positions_);
}

void PassInput::append_place(const PicturePlace& place) {
  const ImageEmbedding& picture = *place.picture;
  const auto n = place.n_tokens(), first = place.first_slice * picture.tokens_per_slice();
  ids_.insert(ids_.end(), static_cast<size_t>(n), PassRows::kPicture);
  const int64_t n_slices = place.n_slices == 0 ? picture.grid.t : place.n_slices;
  counter_.append_visual({n_slices, picture.grid.h, picture.grid.w}, picture.merge_size, picture.slice_step, positions_,
                         picture.cells);
  const auto rows = std::span(picture.values)
                        .subspan(static_cast<size_t>(first * picture.width), static_cast<size_t>(n * picture.width));
  if (!several_ && (single_.empty() || rows.data() == single_.data() + single_.size())) {
    single_ = single_.empty() ? rows : std::span(single_.data(), single_.size() + rows.size());
    return;
  }
  if (!several_) joined_.assign(single_.begin(), single_.end());
  several_ = true;
  joined_.insert(joined_.end(), rows.begin(), rows.end());
}

Status PassInput::append(std::span<const TokenId> ids, std::span<const PicturePlace> places) {
  const auto n = static_cast<int64_t>(ids.size());
  int64_t end = 0;
  for (const PicturePlace& place : places) {
    if (place.position < end || place.n_tokens() > n - place.position) {
      return make_error(ErrorCode::kInternal, "a picture of %d tokens at place %d of %d", place.n_tokens(),
                        place.position, n);
    }
    end = place.position + place.n_tokens();
  }
  size_t at = 0;
  for (const PicturePlace& place : places) {
    append_text(ids.subspan(at, static_cast<size_t>(place.position) - at));
    append_place(place);
    at = static_cast<size_t>(place.position + place.n_tokens());
  }
  append_text(ids.subspan(at));
  return {};
}

}  // namespace glimpse
