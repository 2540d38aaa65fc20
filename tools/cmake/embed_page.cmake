# FILE as an array of bytes in OUT, a C++ source.
file(READ ${FILE} hex HEX)
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE ${OUT} "namespace glimpse::serve {
extern const unsigned char kPageBytes[];
extern const unsigned long kPageSize;
const unsigned char kPageBytes[] = {
${bytes}};
const unsigned long kPageSize = sizeof kPageBytes;
}  // namespace glimpse::serve
")
