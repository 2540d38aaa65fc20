#include "engine/model/pass_input.h"

namespace glimpse {

void PassInput::append_text(std::span<const TokenId> ids) {
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  counter_.append_text(static_cast<int64_t>(ids.size()), positions_);
}

void PassInput::append_picture(const ImageEmbedding& picture) {
  ids_.insert(ids_.end(), static_cast<size_t>(picture.n_tokens), PassRows::kPicture);
  counter_.append_visual(picture.grid, picture.merge_size, positions_);
  if (single_.empty() && !several_) {
    single_ = picture.values;
    return;
  }
  if (!several_) joined_.assign(single_.begin(), single_.end());
  several_ = true;
  joined_.insert(joined_.end(), picture.values.begin(), picture.values.end());
}

Status PassInput::append(std::span<const TokenId> ids, std::span<const PicturePlace> places) {
  const auto n = static_cast<int64_t>(ids.size());
  int64_t end = 0;
  for (const PicturePlace& place : places) {
    if (place.position < end || place.picture->n_tokens > n - place.position) {
      return make_error(ErrorCode::kInternal, "a picture of %d tokens at place %d of %d", place.picture->n_tokens,
                        place.position, n);
    }
    end = place.position + place.picture->n_tokens;
  }
  size_t at = 0;
  for (const PicturePlace& place : places) {
    append_text(ids.subspan(at, static_cast<size_t>(place.position) - at));
    append_picture(*place.picture);
    at = static_cast<size_t>(place.position + place.picture->n_tokens);
  }
  append_text(ids.subspan(at));
  return {};
}

}  // namespace glimpse
