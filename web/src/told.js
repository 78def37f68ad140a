/** An error whose message is a word of the page. */
export class Told extends Error {
  constructor(word, ...given) {
    super(word);
    this.given = given;
  }
}
