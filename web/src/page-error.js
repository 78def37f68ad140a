/** An error whose message is a word of the page. */
export class PageError extends Error {
  constructor(word, ...given) {
    super(word);
    this.given = given;
  }
}
