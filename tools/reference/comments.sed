# The comments of glimpse.h as Doxygen takes them: before a declaration and behind a field.
s,^/\* \(----*\) \(.*[^ -]\) *-*-* \*/$,/** @name \2 */,
s,^/\* ,/** ,
s,^  /\* ,  /** ,
s,\([;\,]\) */\* ,\1 /**< ,
s,\([A-Z0-9_] = [0-9]*\) */\* ,\1 /**< ,
